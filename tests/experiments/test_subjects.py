from pathlib import Path

import numpy as np
from flax import nnx

from eg3d_jax.config import tiny
from eg3d_jax.generator import TriPlaneGenerator
from eg3d_jax.stylegan2 import MappingNetwork
from experiments import subjects
from experiments.subjects import load_subjects


def test_all_truncations_share_a_program(monkeypatch):
    generator, traced = TriPlaneGenerator(tiny(), rngs=nnx.Rngs(0)), []
    truncate = MappingNetwork.truncate

    def counted(self, ws, truncation, cutoff=None):
        traced.append(truncation)
        return truncate(self, ws, truncation, cutoff)

    monkeypatch.setattr(MappingNetwork, "truncate", counted)
    monkeypatch.setattr(subjects, "load_generator", lambda folder: generator)
    heads = [
        load_subjects(None, Path("any"), (5,), truncation).latents[0].w_plus
        for truncation in (0.25, 0.5, 1.0)
    ]
    assert len(traced) <= 1
    # The mean of a fresh generator is zero.
    np.testing.assert_allclose(heads[0], 0.25 * heads[2], atol=1e-6)
    np.testing.assert_allclose(heads[1], 0.5 * heads[2], atol=1e-6)
