"""Run `experiments.page.main` as `python -m experiments.page`."""

from experiments.page.main import start

start()
