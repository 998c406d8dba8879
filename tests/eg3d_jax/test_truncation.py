"""Truncation as an argument of a compiled function."""

import jax
import numpy as np


def test_truncation_may_be_traced(tiny_generator):
    z = jax.random.normal(jax.random.key(0), (tiny_generator.config.z_dim,))
    fixed = [tiny_generator.map_to_ws(z, truncation=psi) for psi in (0.5, 1.0)]
    map_to_ws = jax.jit(lambda psi: tiny_generator.map_to_ws(z, truncation=psi))
    for psi, wanted in zip((0.5, 1.0), fixed, strict=True):
        np.testing.assert_allclose(map_to_ws(psi), wanted, atol=1e-6)
    slope = jax.jacobian(map_to_ws)(1.0)  # also at 1, where a number would be skipped
    np.testing.assert_allclose(0.5 * slope, fixed[1] - fixed[0], atol=1e-6)
