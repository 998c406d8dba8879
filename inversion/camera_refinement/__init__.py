"""Refinement of estimated camera labels, together with a latent of the head that they show."""
