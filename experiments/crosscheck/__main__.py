"""The command."""

from experiments.crosscheck.main import start

start()
