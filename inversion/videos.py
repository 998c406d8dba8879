"""Several videos at once: the same step for each, spread over devices (JAX's mesh and sharding)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inversion.config import InversionConfig
from inversion.objectives import Terms
from inversion.state import StageState

_AXIS = "videos"


def video_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis; by default over all devices of this process."""
    return Mesh(np.array(jax.local_devices() if devices is None else devices), (_AXIS,))


def stack_videos(videos: Sequence[Any], mesh: Mesh) -> Any:
    """Trees of one structure as one with a leading axis [N], spread over the mesh.

    Raises:
      ValueError: if their number is no multiple of the mesh's devices.
    """
    if not videos or len(videos) % mesh.size:
        raise ValueError(f"{len(videos)} videos must be a multiple of the {mesh.size} devices")
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *videos)
    return jax.device_put(stacked, NamedSharding(mesh, PartitionSpec(_AXIS)))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """A tree that all videos share, on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def video(stacked: Any, index: int) -> Any:
    """One of the videos of `stack_videos`."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


@lru_cache  # so that what is compiled is found again
def over_videos(
    advance: Callable[..., tuple[StageState, Terms]],
    mesh: Mesh,
    config: InversionConfig,
    num_steps: int,
) -> jax.stages.Wrapped:
    """A stage's `advance_...` for N videos at once.

    Each device takes N / devices of them; one alone runs the very program of a single video, and
    several are batched. Batches suit the stages whose generator the videos share: in tuning each
    video has kernels of its own, which batched are slow, so give each device one.

    Args:
      advance: of `inversion.optimize`.
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
        return jax.tree.map(lambda leaf: leaf[None], one(video(state, 0), video(own, 0)))

    each, all_alike = PartitionSpec(_AXIS), PartitionSpec()
    spread = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(each, each, all_alike),
        out_specs=each,
        check_vma=False,  # nothing is exchanged between devices
    )
    return jax.jit(spread, donate_argnums=0)
