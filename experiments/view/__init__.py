"""`python -m experiments.view`: turn a head in the browser."""
