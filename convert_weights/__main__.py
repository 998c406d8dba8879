"""The command."""

from convert_weights.main import start

start()
