"""Programs of the generator and of an inversion as shapes, to be compiled and not run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.config import ffhq_512
from eg3d_jax.generator import Renders, TriPlaneGenerator
from experiments.benchmark.cases import Case, step_cases
from experiments.subjects import EMBEDDED, load_generator
from inversion.config import InversionConfig, quick
from inversion.features.networks import load_networks
from inversion.fitting.steps import advance_latents, start_latents
from inversion.latents import Latents
from inversion.objectives import FeatureNetworks
from inversion.regularizers import split_targets

VIEWS = 9
_KNOTS = 5  # of the views have a latent of their own
SYNTHESIS, KEPT, GRADIENT = "synthesis", "synthesis, planes kept", "gradient of ws"
LATENT, TUNING = f"latent step, {VIEWS} views", f"tuning step, {VIEWS} views"
SEVERAL = f"step of {_KNOTS} latents, {VIEWS} views, all regularisers"
SMALL_LATENT, SMALL_TUNING = "small latent step, 1 view", "small tuning step, 1 view"
NAMES = (SYNTHESIS, KEPT, GRADIENT, LATENT, TUNING, SEVERAL, SMALL_LATENT, SMALL_TUNING)


def program(name: str) -> Case:
    """One of the programs of `NAMES`, with shapes for arguments: no weights are made.

    All but the small ones have the size of the official faces, ffhq512-128; the small ones are
    those of 'quick' with the embedded generator, which draw one view a step.
    """
    if name in (SYNTHESIS, KEPT, GRADIENT):
        return _picture(name)
    if name == SEVERAL:
        return _several(_official(), _networks(512), InversionConfig(num_latents=_KNOTS))
    small = name in (SMALL_LATENT, SMALL_TUNING)
    generator = load_generator(EMBEDDED) if small else _official()
    networks = _networks(generator.config.image_side)
    config = quick(views_per_step=None) if small else InversionConfig()
    latent, tuning = _steps(generator, networks, config, 1 if small else VIEWS)
    chosen = latent if name in (LATENT, SMALL_LATENT) else tuning
    return dataclasses.replace(chosen, name=name)


def _official() -> TriPlaneGenerator:
    return nnx.eval_shape(lambda: TriPlaneGenerator(ffhq_512(), rngs=nnx.Rngs(0)))


def _networks(image_side: int) -> FeatureNetworks:
    return jax.eval_shape(lambda x: x, load_networks(image_side))


def _ws(generator: TriPlaneGenerator) -> jax.ShapeDtypeStruct:
    config = generator.config
    return jax.ShapeDtypeStruct((config.num_ws, config.w_dim), jnp.float32)


def _picture(name: str) -> Case:
    """A picture of a latent, of planes that are there already, or its gradient by the latent."""
    generator, camera = _official(), yaw_pitch_camera(0.3, 0.1)
    ws = _ws(generator)

    def synthesize(generator: TriPlaneGenerator, ws: jax.Array) -> Renders:
        return generator.synthesize(ws, camera)

    def kept(generator: TriPlaneGenerator, planes: jax.Array, ws: jax.Array) -> Renders:
        return generator.superresolve(generator.render(planes, camera), ws)

    def loss(ws: jax.Array, generator: TriPlaneGenerator) -> jax.Array:
        out = generator.synthesize(ws, camera)
        return jnp.mean(jnp.square(out.image)) + jnp.mean(out.depth)

    function: Callable[..., Any] = synthesize
    arguments: tuple[Any, ...] = (generator, ws)
    if name == KEPT:
        planes = jax.eval_shape(lambda g, ws: g.tri_planes(ws), generator, ws)
        function, arguments = kept, (generator, planes, ws)
    elif name == GRADIENT:
        function, arguments = jax.value_and_grad(loss), (ws, generator)
    return Case(name=name, function=function, arguments=arguments)


def _steps(
    generator: TriPlaneGenerator, networks: FeatureNetworks, config: InversionConfig, views: int
) -> list[Case]:
    """A step of the latent stage and one of tuning."""
    cases: list[Case] = []

    def arguments(generator: Any, networks: Any, ws: jax.Array) -> list[tuple[Any, ...]]:
        cases[:] = step_cases(generator, networks, config, ws, views)
        return [case.arguments for case in cases]

    shapes = jax.eval_shape(arguments, generator, networks, _ws(generator))
    return [
        dataclasses.replace(case, arguments=each) for case, each in zip(cases, shapes, strict=True)
    ]


def _several(
    generator: TriPlaneGenerator, networks: FeatureNetworks, config: InversionConfig
) -> Case:
    """A step of several latents with all regularisers, every second view a knot."""
    latent = _steps(generator, networks, config, VIEWS)[0]
    knots = jnp.arange(0, VIEWS, 2)
    between = jnp.arange(1, VIEWS, 2)

    def arguments(targets: Any, ws: jax.Array) -> tuple[Any, ...]:
        latents = Latents(
            w_plus=jnp.broadcast_to(ws, (_KNOTS, *ws.shape)), azimuth=jnp.arange(float(_KNOTS))
        )
        state = start_latents(latents, jax.random.key(0))
        return state, split_targets(targets, knots, between), latents

    targets = latent.arguments[3]
    state, targets, latents = jax.eval_shape(arguments, targets, _ws(generator))

    def step(state: Any, generator: Any, networks: Any, targets: Any, latents: Any) -> Any:
        return advance_latents(
            state, generator, networks, targets, latents, config=config, num_steps=1
        )

    return Case(
        name=SEVERAL,
        function=step,
        arguments=(state, generator, networks, targets, latents),
        carries=True,
    )
