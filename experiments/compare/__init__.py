"""`python -m experiments.compare`: the ways to invert a head, side by side."""
