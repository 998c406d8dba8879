"""Frozen feature networks for losses and metrics."""
