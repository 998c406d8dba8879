"""The command."""

from experiments.invert.main import start

start()
