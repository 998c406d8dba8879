"""Whole runs against the clock: the paper's schedule, and many videos against one."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import jax

from eg3d_jax.generator import TriPlaneGenerator
from experiments.benchmark.cases import Case, step_cases
from experiments.invert import main as invert
from experiments.subjects import DEMO
from inversion.config import InversionConfig
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


def videos_speedup(count: int) -> float:
    """How many times faster that many demo heads are inverted in one run than one by one.

    Whole commands are timed, with all steps compiled before.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        copies = []
        for number in range(count):
            copies.append(home / f"head{number}")
            copies[-1].symlink_to(DEMO)
        seconds = {}
        for name, frames in (("one", copies[:1]), ("all", copies)):
            for attempt in ("compile", "time"):
                args = invert.Args(frames=tuple(frames), run=home / name / attempt, baseline=False)
                started = time.perf_counter()
                invert.main(args)
                seconds[name] = time.perf_counter() - started
    return count * seconds["one"] / seconds["all"]


def _run(case: Case, calls: int) -> float:
    compiled = jax.jit(case.function).lower(*case.arguments).compile()
    state, *rest = case.arguments
    started = time.perf_counter()
    for _ in range(calls):
        state, _terms = compiled(state, *rest)
    jax.block_until_ready(state)
    return time.perf_counter() - started
