"""The command."""

from experiments.benchmark.main import start

start()
