"""Multi-view inversion of a tri-plane generator."""
