"""The command."""

from experiments.view.main import start

start()
