"""Run `convert_weights.main` as `python -m convert_weights`."""

from convert_weights.main import start

start()
