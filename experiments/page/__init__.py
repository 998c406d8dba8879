"""`python -m experiments.page`: one HTML file in which a head is turned in any browser."""
