"""Cameras refined together with the head that they see."""
