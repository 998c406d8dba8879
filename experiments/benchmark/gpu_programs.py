"""Programs of the generator and of an inversion, to be compiled for a GPU, and run on one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.config import ffhq_512
from eg3d_jax.generator import Renders, TriPlaneGenerator, planes_of
from experiments.benchmark.cases import SAMPLER, Case, sampler_case, step_cases
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
SMALL = (SMALL_LATENT, SMALL_TUNING)
STEPS = (LATENT, TUNING, SEVERAL, *SMALL)
NAMES = (SAMPLER, SYNTHESIS, KEPT, GRADIENT, *STEPS)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What programs are made of; shapes or arrays.

    Attributes:
      generator: of any weights.
      networks: of the losses.
      shapes: whether programs are for compiling only: their arguments are shapes then.
      steps: that were made, by views and number.
    """

    generator: TriPlaneGenerator
    networks: FeatureNetworks
    shapes: bool = False
    steps: dict[tuple[int, int], list[Case]] = field(default_factory=dict)

    def made(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns, or its shape."""
        return jax.eval_shape(function, *arguments) if self.shapes else function(*arguments)

    @property
    def ws(self) -> Any:
        """A latent [L, D]."""
        return self.made(_some_ws, self.generator)


@jax.jit
def _some_ws(generator: TriPlaneGenerator) -> jax.Array:
    return generator.map_to_ws(jnp.ones(generator.config.z_dim))


def official_shapes() -> Subject:
    """The size of the official faces, ffhq512-128; no weights are made."""
    generator = nnx.eval_shape(lambda: TriPlaneGenerator(ffhq_512(), rngs=nnx.Rngs(0)))
    networks = load_networks(generator.config.image_side)
    return Subject(generator=generator, networks=networks, shapes=True)


def embedded_shapes() -> Subject:
    """The embedded generator's size."""
    generator = load_generator(EMBEDDED)
    networks = load_networks(generator.config.image_side)
    return Subject(generator=generator, networks=networks, shapes=True)


def shapes_of(name: str) -> Case:
    """One of the programs of `NAMES` at the size it is meant for, with shapes for arguments."""
    return program(name, embedded_shapes() if name in SMALL else official_shapes())


def program(name: str, subject: Subject, *, num_steps: int = 1) -> Case:
    """One of the programs of `NAMES`.

    Args:
      name: which; the small ones are steps of 'quick' on one view, as it draws.
      subject: of any size.
      num_steps: of a call, where it is a step.
    """
    if name == SAMPLER:
        return sampler_case(subject.generator)
    if name in (SYNTHESIS, KEPT, GRADIENT):
        return _picture(name, subject)
    if name == SEVERAL:
        return _several(subject, num_steps)
    config = quick(views_per_step=None) if name in SMALL else InversionConfig()
    latent, tuning = _steps(subject, config, 1 if name in SMALL else VIEWS, num_steps)
    chosen = latent if name in (LATENT, SMALL_LATENT) else tuning
    return dataclasses.replace(chosen, name=name)


def _picture(name: str, subject: Subject) -> Case:
    """A picture of a latent, of planes that are there already, or its gradient by the latent."""
    generator, ws, camera = subject.generator, subject.ws, yaw_pitch_camera(0.3, 0.1)

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
        planes = subject.made(planes_of, generator, ws)
        function, arguments = kept, (generator, planes, ws)
    elif name == GRADIENT:
        function, arguments = jax.value_and_grad(loss), (ws, generator)
    return Case(name=name, function=function, arguments=arguments)


def _steps(subject: Subject, config: InversionConfig, views: int, num_steps: int) -> list[Case]:
    """A step of the latent stage and one of tuning, or several; kept with the subject."""
    cases: list[Case] = []

    def arguments(generator: Any, networks: Any, ws: jax.Array) -> list[tuple[Any, ...]]:
        cases[:] = step_cases(generator, networks, config, ws, views, num_steps=num_steps)
        return [case.arguments for case in cases]

    if (views, num_steps) not in subject.steps:
        found = subject.made(arguments, subject.generator, subject.networks, subject.ws)
        subject.steps[views, num_steps] = [
            dataclasses.replace(case, arguments=each)
            for case, each in zip(cases, found, strict=True)
        ]
    return subject.steps[views, num_steps]


def _several(subject: Subject, num_steps: int) -> Case:
    """A step of several latents with all regularisers, every second view a knot."""
    config = InversionConfig(num_latents=_KNOTS)
    latent = _steps(subject, InversionConfig(), VIEWS, 1)[0]
    knots, between = np.arange(0, VIEWS, 2), np.arange(1, VIEWS, 2)

    def arguments(targets: Any, ws: jax.Array) -> tuple[Any, ...]:
        latents = Latents(
            w_plus=jnp.broadcast_to(ws, (_KNOTS, *ws.shape)), azimuth=jnp.arange(float(_KNOTS))
        )
        state = start_latents(latents, jax.random.key(0))
        return state, split_targets(targets, knots, between), latents

    state, targets, latents = subject.made(arguments, latent.arguments[3], subject.ws)

    def step(state: Any, generator: Any, networks: Any, targets: Any, latents: Any) -> Any:
        return advance_latents(
            state, generator, networks, targets, latents, config=config, num_steps=num_steps
        )

    return Case(
        name=SEVERAL,
        function=step,
        arguments=(state, subject.generator, subject.networks, targets, latents),
        carries=True,
    )
