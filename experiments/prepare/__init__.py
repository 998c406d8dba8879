"""`python -m experiments.prepare`: raw video or photos to frames with cameras."""
