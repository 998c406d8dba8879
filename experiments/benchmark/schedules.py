"""Whole runs against the clock: the paper's schedule, and many videos against one."""

from __future__ import annotations

import time

import jax

from eg3d_jax.generator import TriPlaneGenerator
from experiments.benchmark.cases import Case, step_cases
from experiments.subjects import DEMO, EMBEDDED, load_generator
from inversion import InversionConfig, invert_videos, load_frames, quick
from inversion.features.networks import load_networks
from inversion.objectives import FeatureNetworks


def run_schedule(
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    config: InversionConfig,
    *,
    views: int,
    steps: int,
    chunk: int,
) -> float:
    """Seconds of a latent and a tuning stage, compilation apart.

    Args:
      generator: with any weights.
      networks: of the losses.
      config: of the steps.
      views: fitted together.
      steps: of each stage.
      chunk: steps of one compiled call; must divide them.
    """
    ws = jax.jit(lambda g, z: g.map_to_ws(z))(
        generator, jax.numpy.ones(generator.config.z_dim)
    )  # fmt: skip
    return sum(
        _run(case, steps // chunk)
        for case in step_cases(generator, networks, config, ws, views, num_steps=chunk)
    )


def videos_speedup(count: int, config: InversionConfig | None = None) -> float:
    """How many times faster that many demo heads are inverted together than one by one.

    Whole inversions are timed, by `quick` if no config is given, with all steps compiled before.
    """
    config = config or quick()
    generator = load_generator(EMBEDDED)
    networks = load_networks(generator.config.image_side)
    frames, key = load_frames(DEMO, generator).evenly(7), jax.random.key(0)

    def seconds(heads: int) -> float:
        started = time.perf_counter()
        videos = [frames] * heads
        for found in invert_videos(generator, videos, config, key=key, networks=networks):
            if isinstance(found, Exception):
                raise found
            jax.block_until_ready(found.latents)
        return time.perf_counter() - started

    for heads in (1, count):
        seconds(heads)  # compiles
    return count * seconds(1) / seconds(count)


def _run(case: Case, calls: int) -> float:
    compiled = jax.jit(case.function).lower(*case.arguments).compile()
    state, *rest = case.arguments
    started = time.perf_counter()
    for _ in range(calls):
        state, _terms = compiled(state, *rest)
    jax.block_until_ready(state)
    return time.perf_counter() - started
