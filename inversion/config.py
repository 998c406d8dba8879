"""Options of an inversion as frozen dataclasses. Defaults are the paper's (spec inversion 10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

# Regularisers of several latents (spec inversion section 5).
Regularizer = Literal["distance", "interpolation", "depth"]
# W+ has a latent for each layer of the generator, W one for all of them.
LatentSpace = Literal["w+", "w"]
# One step for all terms, or one for each, with several latents (spec inversion section 5).
Update = Literal["joint", "alternating"]


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Options of one stage of optimisation with Adam (0.9, 0.999, 1e-8).

    Attributes:
      num_steps: steps of the stage; 0 skips it.
      learning_rate: of the plateau.
      ramp_up: fraction of the steps over which the rate rises from zero.
      ramp_down: fraction of the steps over which it falls to zero.
    """

    num_steps: int
    learning_rate: float
    ramp_up: float = 0.0
    ramp_down: float = 0.0

    def __post_init__(self):
        if self.num_steps < 0 or not self.learning_rate > 0:
            raise ValueError(
                f"num_steps={self.num_steps} must not be negative and "
                f"learning_rate={self.learning_rate} must be positive"
            )


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factors on the loss terms of one view (spec inversion section 2).

    Attributes:
      pixel: of the mean squared difference in the [-1, 1] range.
      perceptual: of the LPIPS distance.
      identity: of one minus the cosine of the face embeddings; without effect if no network is
        given.
      prior: of the mean squared distance to the mean latent; latent stage only.
      noise: of the correlation within the noise maps, where they are fitted (spec inversion 2.4).
      distance: of the mean squared distance of the views' latents to the one of all views.
      interpolation: of the image losses of frames between the views.
      depth: of the mean squared distance of the latents' depths from their mean, world units.
    """

    pixel: float = 0.1
    perceptual: float = 1.0
    identity: float = 1.0
    prior: float = 1.0
    noise: float = 1e5
    distance: float = 1.0
    interpolation: float = 1.0
    depth: float = 1.0


@dataclass(frozen=True, kw_only=True)
class InversionConfig:
    """Options of an inversion: one latent, one for each of several views, then pivotal tuning.

    Attributes:
      num_latents: K; with more than one, that many of the views get a latent each, and the others
        see what lies between.
      knots: which views those are: spread evenly in yaw, or by how much neighbours look different.
      latent: the first stage, one latent for all views (spec inversion section 3).
      latents: the second stage, a latent for each of several views (spec inversion section 5);
        without effect where one latent is wanted.
      tuning: the last stage (spec inversion sections 4 and 6).
      weights: of the loss terms.
      w_noise: deviation of the exploration noise at the start, in units of the spread of w.
      w_noise_ramp: fraction of the first stage over which the noise vanishes.
      noise_per_view: draw the noise afresh for each view, as the authors do, which needs feature
        planes for each view; else once a step for all views.
      random_rays: jitter the samples along the rays, as the authors do.
      views_per_step: render only so many views a step, drawn at random; None takes all, as the
        authors do. A quarter of the views a step is a good bargain where time is short. Where the
        interpolation term takes part, half of them are of those between the latents, but at least
        one of either kind.
      latent_space: where latents are sought.
      mask_background: look at the person alone: outside the views' masks neither the views nor
        their renderings count in the losses, so that nothing is learned there.
      fit_noise_maps: fit the backbone's noise maps with the latent of all views; they stay as found
        in the stages after.
      target_lpips: a stage ends early once the perceptual term, a mean over its last steps, is no
        larger; None takes all steps.
      regularizers: which of the three take part in the stages of several latents.
      update: 'joint' follows the gradient of all terms together; 'alternating' takes an Adam step
        for the views, one for depth and one for the frames between them, as the authors do.
      depth_side: pixels along either axis of the depths that are compared; None for the
        generator's own, as the authors do. Half of them costs a quarter.
      views_at_once: views rendered together; the others wait and are recomputed in the backward
        pass, which bounds memory. None renders all together.
      rays_at_once: the same for the rays of a view.
    """

    num_latents: int = 1
    knots: Literal["even", "change"] = "even"
    latent: StageConfig = field(
        default_factory=lambda: StageConfig(
            num_steps=500, learning_rate=0.1, ramp_up=0.05, ramp_down=0.25
        )
    )
    latents: StageConfig = field(
        default_factory=lambda: StageConfig(
            num_steps=500, learning_rate=0.01, ramp_up=0.05, ramp_down=0.25
        )
    )
    tuning: StageConfig = field(
        default_factory=lambda: StageConfig(num_steps=500, learning_rate=3e-4)
    )
    weights: LossWeights = LossWeights()
    w_noise: float = 0.05
    w_noise_ramp: float = 0.75
    noise_per_view: bool = False
    random_rays: bool = True
    views_per_step: int | None = None
    latent_space: LatentSpace = "w+"
    mask_background: bool = False
    fit_noise_maps: bool = False
    target_lpips: float | None = None
    regularizers: tuple[Regularizer, ...] = ("distance", "interpolation", "depth")
    update: Update = "joint"
    depth_side: int | None = None
    views_at_once: int | None = None
    rays_at_once: int | None = None

    def __post_init__(self):
        choices = [(name, Regularizer) for name in self.regularizers]
        for given, known in [*choices, (self.update, Update), (self.latent_space, LatentSpace)]:
            if given not in get_args(known):
                raise ValueError(f"{given!r} is none of {', '.join(get_args(known))}; choose one")
        if self.num_latents < 1:
            raise ValueError(f"num_latents={self.num_latents} must be at least 1")
        for name in ("views_per_step", "depth_side", "views_at_once", "rays_at_once"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1, or None")


Preset = Literal["paper", "quick"]


def paper(**changes: Any) -> InversionConfig:
    """The authors' published schedule and weights (spec inversion 10).

    Args:
      changes: fields of `InversionConfig` to be others.

    Example:
      >>> paper(num_latents=4).tuning.num_steps
      500
    """
    return InversionConfig(**changes)


def quick(**changes: Any) -> InversionConfig:
    """A schedule of minutes on a laptop: few steps of one random view each, for a small generator.

    Tuning steps are larger, and prior and noise small, since a small latent space needs none. Depth
    weighs more: the small heads' latents differ by millimetres, whose squares are a thousandth of
    the image losses.

    Args:
      changes: fields of `InversionConfig` to be others.
    """
    config = InversionConfig(
        latent=StageConfig(num_steps=160, learning_rate=0.1, ramp_up=0.05, ramp_down=0.4),
        latents=StageConfig(num_steps=120, learning_rate=0.03, ramp_up=0.05, ramp_down=0.4),
        tuning=StageConfig(num_steps=80, learning_rate=4e-3, ramp_up=0.1, ramp_down=0.5),
        weights=LossWeights(pixel=3.0, prior=0.02, depth=1000.0),
        w_noise=0.02,
        views_per_step=1,
        depth_side=32,
    )
    return dataclasses.replace(config, **changes)


PRESETS: dict[Preset, Callable[..., InversionConfig]] = {"paper": paper, "quick": quick}


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """Copy a configuration with other values in some fields.

    Args:
      config: a dataclass, such as `InversionConfig`.
      changes: new values by dotted name, as {"latent.num_steps": 100}.

    Raises:
      ValueError: if a value cannot be; see the dataclasses.
    """
    for name, value in changes.items():
        field_name, _, rest = name.partition(".")
        if rest:
            value = changed(getattr(config, field_name), {rest: value})
        config = dataclasses.replace(config, **{field_name: value})
    return config
