"""Gaussian splats of a head: fitted to a generator's renders, and written for other programs."""
