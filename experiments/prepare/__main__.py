"""Run `experiments.prepare.main` as `python -m experiments.prepare`."""

from experiments.prepare.main import start

start()
