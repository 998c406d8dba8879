"""Time, memory and arithmetic of the generator and of an inversion's steps."""
