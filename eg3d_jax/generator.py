"""The EG3D generator: latents and a camera in, a picture and its depth out.

One latent and one view a call; callers `vmap` or `lax.map`. A generator is an `nnx.Module` and a
pytree: pass it through plain `jax.jit`, `jax.grad` and `jax.vmap`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax import Array

from eg3d_jax.cameras import Cameras, check_single, orbit, to_label
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.errors import check_float32
from eg3d_jax.field import Decoder, TriPlaneField
from eg3d_jax.layers import NoiseMode
from eg3d_jax.rays import RayDraws, cast_rays, random_draws
from eg3d_jax.rendering import RenderedRays, render_rays
from eg3d_jax.stylegan2 import Backbone, MappingNetwork
from eg3d_jax.superresolution import SuperResolution
from eg3d_jax.tri_planes import with_border


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Renders:
    """One rendered view.

    Attributes:
      image: [H, W, 3] about [-1, 1], not clamped.
      raw: [h, w, 3] colour of the volume rendering, before super-resolution.
      depth: [h, w] expected distance from the camera centre, world units.
      opacity: [h, w] in [0, 1].
    """

    image: Array
    raw: Array
    depth: Array
    opacity: Array


class Origin:
    """Source and licence of a generator's weights; all compare equal: no program depends on them.

    Attributes:
      metadata: of the checkpoint: 'source', 'license', 'fingerprint' and more.
    """

    def __init__(self, metadata: Mapping[str, Any] | None = None):
        self.metadata = dict(metadata or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __hash__(self) -> int:
        return 0


class TriPlaneGenerator(nnx.Module):
    """The whole network (spec eg3d section 1)."""

    def __init__(self, config: GeneratorConfig, *, rngs: nnx.Rngs):
        check_float32()
        self.config = config
        self.origin = Origin()
        self.mapping = MappingNetwork(config, rngs=rngs)
        self.backbone = Backbone(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        self.superresolution = SuperResolution(config, rngs=rngs)

    def map_to_ws(
        self,
        z: Array,
        camera: Cameras | None = None,
        *,
        truncation: float | Array = 1.0,
        cutoff: int | None = None,
    ) -> Array:
        """Map random input to style latents.

        Args:
          z: [z_dim], standard normal.
          camera: what the mapping is conditioned on, independent of the camera rendered from; the
            frontal camera if None.
          truncation: 1 leaves the latents as they are, 0 gives the mean latent; may be traced.
          cutoff: truncate only so many latents; all if None.

        Returns:
          ws [L, D].

        Raises:
          ValueError: if z or the camera is not of one head.
        """
        if z.shape != (self.config.z_dim,):
            raise ValueError(
                f"z has shape {z.shape}, want ({self.config.z_dim},): one head; vmap several"
            )
        camera = self.frontal_camera() if camera is None else camera
        check_single(camera)
        label = to_label(camera)
        w = self.mapping(z, label if self.config.c_dim else None)
        ws = jnp.broadcast_to(w, (self.config.num_ws, self.config.w_dim))
        if isinstance(truncation, int | float) and truncation == 1:
            return ws
        return self.mapping.truncate(ws, truncation, cutoff)

    def frontal_camera(self) -> Cameras:
        """Camera in front at the orbit's radius that looks at the training pivot."""
        half_pi = jnp.pi / 2
        config = self.config
        return orbit(
            half_pi,
            half_pi,
            radius=config.camera_radius,
            target=config.camera_pivot,
            focal=config.focal,
        )

    def tri_planes(
        self, ws: Array, *, noise_mode: NoiseMode = "const", key: Array | None = None
    ) -> Array:
        """Style latents [L, D] -> feature planes [N, P, P, C], rows are the vertical coordinate.

        Raises:
          ValueError: if ws has another shape, or the noise mode is not known.
        """
        if ws.shape != (self.config.num_ws, self.config.w_dim):
            raise ValueError(
                f"ws has shape {ws.shape}, this generator takes "
                f"({self.config.num_ws}, {self.config.w_dim}); is it another generator's latent?"
            )
        if noise_mode not in get_args(NoiseMode):
            raise ValueError(f"noise_mode={noise_mode!r} must be one of {get_args(NoiseMode)}")
        image = self.backbone(ws, noise_mode=noise_mode, key=key)
        return rearrange(image, "h w (n c) -> n h w c", n=self.config.num_planes)

    def random_draws(self, key: Array, side: int | None = None) -> RayDraws:
        """Draw the random numbers of one view of side x side pixels, `neural_side` if None."""
        side = self.config.neural_side if side is None else side
        return random_draws(key, side * side, self.config.render)

    def field(self, planes: Array) -> TriPlaneField:
        """Field of planes: points [M, 3] -> colour features [M, C], raw density [M]."""
        return TriPlaneField(
            decoder=self.decoder,
            bordered=with_border(planes),
            axes=self.config.plane_axes,
            box_warp=self.config.render.box_warp,
        )

    def query(self, planes: Array, points: Array) -> tuple[Array, Array]:
        """Colour features [M, C] in about [0, 1] and raw density [M] at points [M, 3].

        Density for compositing is softplus(raw - 1) per world unit (spec eg3d section 10).
        """
        return self.field(planes)(points)

    def render(
        self,
        planes: Array,
        camera: Cameras,
        *,
        side: int | None = None,
        draws: RayDraws | None = None,
        rays_at_once: int | None = None,
    ) -> RenderedRays:
        """Render one view without super-resolution, which is all that depth needs.

        Args:
          planes: from `tri_planes`.
          camera: a single camera.
          side: pixels along either axis; the configuration's `neural_side` if None.
          draws: random numbers of the sampler; deterministic if None.
          rays_at_once: see `render_rays`.

        Returns:
          features [h, w, C], depth [h, w] and opacity [h, w].

        Raises:
          ValueError: if there are several cameras, no pixels, or `rays_at_once` does not divide.
        """
        side = self.config.neural_side if side is None else side
        rays = cast_rays(camera, side)
        out = render_rays(
            self.field(planes), rays, self.config.render, draws=draws, rays_at_once=rays_at_once
        )
        return jax.tree.map(lambda x: x.reshape(side, side, *x.shape[1:]), out)

    def superresolve(self, rendered: RenderedRays, ws: Array) -> Renders:
        """Enlarge a rendering to the final image, steered by the last latent of ws [L, D]."""
        return Renders(
            image=self.superresolution(rendered.features, ws[-1]),
            raw=rendered.features[..., :3],
            depth=rendered.depth,
            opacity=rendered.opacity,
        )

    def synthesize(
        self,
        ws: Array,
        camera: Cameras,
        *,
        side: int | None = None,
        draws: RayDraws | None = None,
        noise_mode: NoiseMode = "const",
        key: Array | None = None,
        rays_at_once: int | None = None,
    ) -> Renders:
        """Style latents ws [L, D] and one camera -> a picture; arguments as in `render`.

        Deterministic unless `draws`, or noise_mode 'random' with a `key`, say otherwise.
        """
        planes = self.tri_planes(ws, noise_mode=noise_mode, key=key)
        rendered = self.render(planes, camera, side=side, draws=draws, rays_at_once=rays_at_once)
        return self.superresolve(rendered, ws)

    def synthesize_views(
        self,
        ws: Array,
        cameras: Cameras,
        *,
        views_at_once: int | None = None,
        rays_at_once: int | None = None,
    ) -> Renders:
        """Render many cameras from planes computed once.

        Args:
          ws: [L, D].
          cameras: leading axis [V].
          views_at_once: how many views are rendered together; all if None.
          rays_at_once: see `render_rays`.

        Returns:
          `Renders` with a leading axis [V].
        """
        planes = self.tri_planes(ws)

        def one(camera: Cameras) -> Renders:
            return self.superresolve(self.render(planes, camera, rays_at_once=rays_at_once), ws)

        return jax.lax.map(one, cameras, batch_size=views_at_once or len(cameras))


def ray_range(generator: TriPlaneGenerator) -> tuple[float, float] | None:
    """Distances between which rays are sampled, or None if the generator's box sets them."""
    render = generator.config.render
    if render.ray_start is None or render.ray_end is None:
        return None
    return render.ray_start, render.ray_end


def with_finer_rays(generator: TriPlaneGenerator, factor: int) -> TriPlaneGenerator:
    """Copy the generator with `factor` times as many samples along each ray, both passes."""
    render = generator.config.render
    finer = dataclasses.replace(
        render,
        coarse_samples=factor * render.coarse_samples,
        fine_samples=factor * render.fine_samples,
    )
    copy = nnx.merge(*nnx.split(generator))
    copy.config = dataclasses.replace(generator.config, render=finer)
    return copy


@jax.jit
def planes_of(generator: TriPlaneGenerator, ws: Array) -> Array:
    """Feature planes of a latent [L, D]."""
    return generator.tri_planes(ws)
