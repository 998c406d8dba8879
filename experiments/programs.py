"""The compiled steps of a run, one for each kind of stage, and the memory that XLA plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from eg3d_jax.generator import TriPlaneGenerator
from experiments.stages import Stage
from inversion.config import InversionConfig, StageConfig
from inversion.objectives import FeatureNetworks, Terms
from inversion.state import StageState
from inversion.videos import over_videos, replicate

# Steps of one compiled call. On CPU a single one: XLA runs a loop's body two to three times slower
# than the same operations outside (StyleGAN's backbone and its gradient: 223 against 77 ms).
_CHUNK_STEPS = {"cpu": 1}
_OTHER_CHUNK_STEPS = 10


def chunk_steps(schedule: StageConfig) -> int:
    """Steps of one call: no more than the stage has."""
    return min(_CHUNK_STEPS.get(jax.default_backend(), _OTHER_CHUNK_STEPS), schedule.num_steps)


@dataclass(frozen=True)
class Compiled:
    """A compiled chunk of steps.

    Attributes:
      call: (state [N], own arguments [N], generator and networks) -> state, terms.
      bytes: peak memory on each device, XLA's plan: arguments, results, and what lives between.
    """

    call: Callable
    bytes: int


class Programs:
    """Compiles each kind of stage once, and calls it with what all videos share."""

    def __init__(
        self,
        generator: TriPlaneGenerator,
        networks: FeatureNetworks,
        config: InversionConfig,
        mesh: Mesh,
    ):
        self.mesh, self.config = mesh, config
        self._shared = replicate({"generator": generator, "networks": networks}, mesh)
        self._compiled: dict[Any, Compiled] = {}

    def program(
        self, stage: Stage, state: Any, own: Any
    ) -> Callable[[StageState, Any], tuple[StageState, Terms]]:
        """The steps of a stage, for arrays like the given ones, stacked over the videos."""
        compiled = self.compiled(stage, state, own)
        return lambda state, own: compiled.call(state, own, self._shared)

    def compiled(self, stage: Stage, state: Any, own: Any) -> Compiled:
        """The same with its memory; the arrays may be shapes only."""
        leaves, structure = jax.tree.flatten((state, own))
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        key = (stage.advance, stage.schedule, structure, shapes)
        if key not in self._compiled:
            steps = over_videos(stage.advance, self.mesh, self.config, chunk_steps(stage.schedule))
            call = steps.lower(state, own, self._shared).compile()
            self._compiled[key] = Compiled(call, _peak_bytes(call))
        return self._compiled[key]


def _peak_bytes(compiled: jax.stages.Compiled) -> int:
    plan = compiled.memory_analysis()
    if plan is None:  # a backend that does not tell
        return 0
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return held + plan.temp_size_in_bytes
