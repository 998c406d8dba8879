"""Conversion of official PyTorch pickles to Flax, without torch and without executing them."""
