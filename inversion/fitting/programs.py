"""Compiled steps for one or several videos, over devices, and the memory that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from eg3d_jax.generator import TriPlaneGenerator
from inversion.config import InversionConfig, StageConfig
from inversion.fitting.adam import StageState
from inversion.fitting.stages import Stage
from inversion.objectives import FeatureNetworks, Terms

_AXIS = "videos"


def video_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Make a mesh of one axis; by default over all devices of this process."""
    return Mesh(np.array(jax.local_devices() if devices is None else devices), (_AXIS,))


def stack_videos(videos: Sequence[Any], mesh: Mesh) -> Any:
    """Stack trees of one structure along a leading axis [N], sharded over the mesh.

    Raises:
      ValueError: if their number is no multiple of the mesh's devices.
    """
    if not videos or len(videos) % mesh.size:
        raise ValueError(f"{len(videos)} videos must be a multiple of the {mesh.size} devices")
    return jax.device_put(_stacked(tuple(videos)), NamedSharding(mesh, PartitionSpec(_AXIS)))


@jax.jit  # one program, not one for each shape
def _stacked(videos: tuple[Any, ...]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *videos)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copy a tree that all videos share to every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


@jax.jit  # one program, not one for each shape
def video(stacked: Any, index: ArrayLike) -> Any:
    """Pick one of the videos of `stack_videos`."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


@lru_cache  # so that compiled programs are reused
def over_videos(
    advance: Callable[..., tuple[StageState, Terms]],
    mesh: Mesh,
    config: InversionConfig,
    num_steps: int,
) -> jax.stages.Wrapped:
    """Lift a stage's `advance_...` to N videos at once.

    Each device takes N / devices of them; one alone runs the very program of a single video, and
    several are batched. Batches suit the stages whose generator the videos share: in tuning each
    video has kernels of its own, which batched are slow, so give each device one.

    Args:
      advance: of `inversion.fitting.steps`.
      mesh: of `video_mesh`.
      config: of all videos.
      num_steps: of one call.

    Returns:
      The jitted (state [N], arguments [N] of each video by name, arguments they share) -> state,
      whose buffers replace the given one's, and terms [N, num_steps].
    """

    def on_device(state: StageState, own: Mapping[str, Any], shared: Mapping[str, Any]):
        def one(state: StageState, own: Mapping[str, Any]):
            return advance(state, **own, **shared, config=config, num_steps=num_steps)

        if state.step.shape[0] > 1:
            return jax.vmap(one)(state, own)
        first = jax.tree.map(lambda leaf: leaf[0], (state, own))
        return jax.tree.map(lambda leaf: leaf[None], one(*first))

    each, all_alike = PartitionSpec(_AXIS), PartitionSpec()
    sharded = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(each, each, all_alike),
        out_specs=each,
        check_vma=False,  # nothing is exchanged between devices
    )
    return jax.jit(sharded, donate_argnums=0)


# Steps of one compiled call. On CPU a single one: XLA runs a loop's body two to three times slower
# than the same operations outside (StyleGAN's backbone and its gradient: 223 against 77 ms).
_CHUNK_STEPS = {"cpu": 1}
_OTHER_CHUNK_STEPS = 10


def chunk_steps(schedule: StageConfig) -> int:
    """Number of steps of one call, no more than the stage has."""
    return min(_CHUNK_STEPS.get(jax.default_backend(), _OTHER_CHUNK_STEPS), schedule.num_steps)


@dataclass(frozen=True)
class Compiled:
    """A compiled chunk of steps and its peak memory.

    Attributes:
      call: (state [N], own arguments [N], generator and networks) -> state, terms.
      bytes: peak memory on each device, XLA's plan: arguments, results, and what lives between.
    """

    call: Callable
    bytes: int


class Programs:
    """Cache of compiled steps by kind of stage, called with what all videos share."""

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
        """Compile the steps of a stage, for arrays like the given ones, stacked over the videos."""
        compiled = self.compiled(stage, state, own)
        return lambda state, own: compiled.call(state, own, self._shared)

    def compiled(self, stage: Stage, state: Any, own: Any) -> Compiled:
        """Compile the steps and report their memory; the arrays may be shapes only."""
        leaves, structure = jax.tree.flatten((state, own))
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        key = (stage.advance, stage.schedule, structure, shapes)
        if key not in self._compiled:
            config = _read_by_steps(self.config, stage.schedule)
            steps = over_videos(stage.advance, self.mesh, config, chunk_steps(stage.schedule))
            call = steps.lower(state, own, self._shared).compile()
            self._compiled[key] = Compiled(call, _peak_bytes(call))
        return self._compiled[key]


def _read_by_steps(config: InversionConfig, schedule: StageConfig) -> InversionConfig:
    """Even out options that a stage's steps never read, so that inversions share its program."""
    schedules = dict.fromkeys(("latent", "latents", "tuning"), schedule)
    return dataclasses.replace(config, num_latents=1, knots="even", target_lpips=None, **schedules)


def _peak_bytes(compiled: jax.stages.Compiled) -> int:
    plan = compiled.memory_analysis()
    if plan is None:  # a backend without a memory plan
        return 0
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return held + plan.temp_size_in_bytes
