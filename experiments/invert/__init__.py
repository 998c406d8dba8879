"""`python -m experiments.invert`: several views of a head in, a 3D head out."""
