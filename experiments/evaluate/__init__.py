"""`python -m experiments.evaluate`: measure finished runs."""
