"""Run `experiments.evaluate.main` as `python -m experiments.evaluate`."""

from experiments.evaluate.main import start

start()
