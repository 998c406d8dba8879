"""EG3D, a tri-plane generator of heads, in JAX and Flax."""
