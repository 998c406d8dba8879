"""Synthetic moving heads, and the embedded generator trained on them."""
