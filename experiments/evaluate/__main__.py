"""The command."""

from experiments.evaluate.main import start

start()
