"""Memory that a latent step needs, by what is done at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax

from eg3d_jax.generator import TriPlaneGenerator
from experiments.benchmark.cases import step_cases
from experiments.benchmark.measuring import peak_bytes
from experiments.report.tables import markdown
from inversion.config import InversionConfig
from inversion.objectives import FeatureNetworks


def memory_table(
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    *,
    views: Sequence[int],
    rays_at_once: Sequence[int | None],
) -> str:
    """XLA's plan in GB, compiled and not run: Markdown, a row for views and views at once.

    Args:
      generator: of any weights.
      networks: of the losses.
      views: numbers of fitted views; taken one at a time, and all at once.
      rays_at_once: a column each; None for all.
    """
    ws = jax.jit(lambda g, z: g.map_to_ws(z))(
        generator, jax.numpy.ones(generator.config.z_dim)
    )  # fmt: skip
    rows = []
    for count in views:
        for at_once in sorted({1, count}):
            row = [str(count), str(at_once)]
            for rays in rays_at_once:
                config = dataclasses.replace(
                    InversionConfig(), rays_at_once=rays, views_at_once=at_once
                )
                latent = step_cases(generator, networks, config, ws, count)[0]
                compiled = jax.jit(latent.function).lower(*latent.arguments).compile()
                row.append(f"{peak_bytes(compiled) / 1e9:.1f}")
            rows.append(row)
    return markdown(
        ["views", "at once", *(f"{rays or 'all'} rays at once" for rays in rays_at_once)], rows
    )
