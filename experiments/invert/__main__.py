"""Run `experiments.invert.main` as `python -m experiments.invert`."""

from experiments.invert.main import start

start()
