"""The command."""

from experiments.compare.main import start

start()
