"""Run `experiments.view.main` as `python -m experiments.view`."""

from experiments.view.main import start

start()
