"""What is measured: the generator's stages, pictures, gradients, and steps of an inversion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eg3d_jax.cameras import Cameras, yaw_pitch_camera
from eg3d_jax.generator import Renders, TriPlaneGenerator
from eg3d_jax.rendering import RenderedRays
from eg3d_jax.tri_planes import sample_tri_planes
from inversion.config import InversionConfig
from inversion.fitting.steps import advance_latent, advance_tuning, start_latent, start_tuning
from inversion.latents import WStatistics
from inversion.objectives import FeatureNetworks, Targets

SAMPLER = "sampler's backward pass"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One program.

    Attributes:
      name: in the table.
      function: to be compiled, or jitted already.
      arguments: of a call.
      carries: the first argument is replaced by the first result, as in a loop of steps.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    carries: bool = False


def make_cases(
    generator: TriPlaneGenerator, networks: FeatureNetworks, config: InversionConfig, views: int
) -> list[Case]:
    """All cases for a generator with any weights.

    Args:
      generator: measured.
      networks: of the steps' losses.
      config: of the steps: `views_at_once` and `rays_at_once` bound their memory.
      views: number of views V of a step.
    """
    camera, rays_at_once = yaw_pitch_camera(0.3, 0.1), config.rays_at_once

    def map_to_ws(generator: TriPlaneGenerator, z: jax.Array) -> jax.Array:
        return generator.map_to_ws(z)

    def paint(generator: TriPlaneGenerator, ws: jax.Array) -> jax.Array:
        return generator.tri_planes(ws)

    def render(generator: TriPlaneGenerator, planes: jax.Array) -> RenderedRays:
        return generator.render(planes, camera, rays_at_once=rays_at_once)

    def superresolve(
        generator: TriPlaneGenerator, rendered: RenderedRays, ws: jax.Array
    ) -> Renders:
        return generator.superresolve(rendered, ws)

    def from_planes(generator: TriPlaneGenerator, planes: jax.Array, ws: jax.Array) -> Renders:
        return superresolve(generator, render(generator, planes), ws)

    ws = jax.jit(map_to_ws)(generator, z := jnp.ones(generator.config.z_dim))
    planes = jax.jit(paint)(generator, ws)
    rendered = jax.jit(render)(generator, planes)
    image = jnp.zeros((generator.config.image_side,) * 2 + (3,))
    return [
        _case("mapping", map_to_ws, generator, z),
        _case("backbone", paint, generator, ws),
        _case("renderer", render, generator, planes),
        _case("super-resolution", superresolve, generator, rendered, ws),
        _case("features", lambda net, image: net.features(image), networks.lpips, image),
        _case("synthesis, planes kept", from_planes, generator, planes, ws),
        *_synthesis_cases(generator, ws, camera, rays_at_once),
        *step_cases(generator, networks, config, ws, views),
    ]


def _synthesis_cases(
    generator: TriPlaneGenerator, ws: jax.Array, camera: Cameras, rays_at_once: int | None
) -> list[Case]:
    """A whole picture, and its gradients by the latents and by the weights."""
    graph, params, rest = nnx.split(generator, nnx.Param, ...)

    def synthesize(generator: TriPlaneGenerator, ws: jax.Array) -> Renders:
        return generator.synthesize(ws, camera, rays_at_once=rays_at_once)

    def loss(ws: jax.Array, generator: TriPlaneGenerator) -> jax.Array:
        out = synthesize(generator, ws)
        return jnp.mean(jnp.square(out.image)) + jnp.mean(out.depth)

    def loss_of_weights(params: nnx.State, rest: Any, ws: jax.Array) -> jax.Array:
        return loss(ws, nnx.merge(graph, params, rest))

    return [
        _case("synthesis", synthesize, generator, ws),
        _case("gradient of ws", jax.value_and_grad(loss), ws, generator),
        _case("gradient of weights", jax.value_and_grad(loss_of_weights), params, rest, ws),
    ]


def _case(name: str, function: Callable[..., Any], *arguments: Any) -> Case:
    return Case(name=name, function=jax.jit(function), arguments=arguments)


def sampler_case(generator: TriPlaneGenerator) -> Case:
    """The gradient of the planes through the lookup alone, at as many points as a view has.

    It is a scatter, which some releases of jaxlib made hundreds of times slower on a GPU.
    """
    config = generator.config
    render = config.render
    points = config.neural_side**2 * (render.coarse_samples + render.fine_samples)
    where = jax.random.uniform(jax.random.key(2), (points, 3), minval=-0.5, maxval=0.5)
    planes = jax.eval_shape(
        lambda g: g.tri_planes(jnp.zeros((config.num_ws, config.w_dim))), generator
    )

    def total(planes: jax.Array, where: jax.Array) -> jax.Array:
        return jnp.sum(
            sample_tri_planes(planes, where, config.plane_axes, box_warp=render.box_warp)
        )

    return Case(
        name=SAMPLER,
        function=jax.jit(jax.grad(total)),
        arguments=(jnp.zeros(planes.shape), where),
    )


def step_cases(
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    config: InversionConfig,
    ws: jax.Array,
    views: int,
    *,
    num_steps: int = 1,
) -> list[Case]:
    """A step of the latent stage and one of tuning, with V views; or several a call."""
    side = generator.config.image_side
    image = jax.random.uniform(jax.random.key(1), (side, side, 3), minval=-1.0)
    features = jax.jit(lambda net, image: net.features(image))(networks.lpips, image)
    targets = Targets(
        images=jnp.broadcast_to(image, (views, *image.shape)),
        cameras=yaw_pitch_camera(np.linspace(-1.0, 1.0, views, dtype=np.float32), 0.0),
        features=jnp.broadcast_to(features, (views, *features.shape)),
        embeddings=None,
    )
    statistics = WStatistics(mean=ws[0], std=jnp.asarray(1.0))
    key = jax.random.key(0)

    def latent(state: Any, generator: Any, networks: Any, targets: Any, statistics: Any) -> Any:
        return advance_latent(
            state, generator, networks, targets, statistics, config=config, num_steps=num_steps
        )

    def tuning(state: Any, generator: Any, networks: Any, targets: Any, ws: Any) -> Any:
        return advance_tuning(
            state, generator, networks, targets, ws, config=config, num_steps=num_steps
        )

    plural = "view" if views == 1 else "views"
    return [
        Case(
            name=f"latent step, {views} {plural}",
            function=jax.jit(latent, donate_argnums=0),
            arguments=(
                start_latent(statistics, len(ws), key), generator, networks, targets, statistics,
            ),
            carries=True,
        ),
        Case(
            name=f"tuning step, {views} {plural}",
            function=jax.jit(tuning, donate_argnums=0),
            arguments=(start_tuning(generator, key), generator, networks, targets, ws),
            carries=True,
        ),
    ]  # fmt: skip
