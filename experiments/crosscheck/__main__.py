"""Run `experiments.crosscheck.main` as `python -m experiments.crosscheck`."""

from experiments.crosscheck.main import start

start()
