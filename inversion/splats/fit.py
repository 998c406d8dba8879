"""Fit Gaussians to a generator's renders of one head: `splat`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from eg3d_jax.cameras import Cameras, yaw_azimuth, yaw_pitch_camera
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.generator import Renders, TriPlaneGenerator
from inversion import metrics
from inversion.features.networks import load_networks
from inversion.latents import Latents, latents_at, repeat_latents
from inversion.monitor import Monitor, Stopped
from inversion.result import Inversion, render_views
from inversion.splats.gaussians import MAX_DEGREE, Gaussians
from inversion.splats.rasteriser import Overlaps, blend, overlaps, project
from inversion.splats.start import surface_gaussians

_LIST_LENGTH = 32
_STEPS_A_REPORT = 20
_WEIGHTS = {"colour": 0.8, "structure": 0.2, "opacity": 0.05, "depth": 0.2}
# Adam's steps: pixels, logarithms, parts of quaternions, logits, harmonics of degree 0 and beyond.
_RATES = {"centres": 0.04, "log_scales": 1e-2, "rotations": 1e-2, "opacity_logits": 5e-2}
_COLOUR_RATE, _BEYOND = 1e-2, 0.1
_LAST_RATE = 0.05  # over the first
_PRUNED = 0.02  # opacity of Gaussians that are left out in the end
_FARTHER = 1.08  # cameras of the fit, so that as many see the borders of the range as its middle
_ALL = 96  # entries of a list that leaves next to nothing out


@dataclass(frozen=True, kw_only=True)
class SplatSettings:
    """How Gaussians are fitted.

    Attributes:
      count: largest number of Gaussians.
      degree: of the harmonics, 0 to 3: how much a colour may change with the direction.
      views: cameras that the fit sees.
      steps: of Adam, a view each.
      max_yaw: farthest of the cameras to either side, radians.
      max_pitch: farthest up and down, radians.
      yaw: of several latents: that of this yaw, radians; None for that of each camera, which leaves
        it to the fit what they agree on.
    """

    count: int = 30_000
    degree: int = 0
    views: int = 96
    steps: int = 1_200
    max_yaw: float = math.radians(85)
    max_pitch: float = math.radians(25)
    yaw: float | None = 0.0

    def __post_init__(self):
        limits = {
            "count": (1, 10**6), "degree": (0, MAX_DEGREE), "views": (1, 10_000),
            "steps": (0, 10**6), "max_yaw": (0, 1.1 * math.pi), "max_pitch": (0, 1.57),
        }  # fmt: skip
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}={getattr(self, name)} must be from {least} to {most}")


def splat(
    head: Inversion, settings: SplatSettings | None = None, *, monitor: Monitor | None = None
) -> Gaussians:
    """Fit Gaussians to an inverted head, so that any viewer of splats shows it.

    Args:
      head: only its generator and latents are read.
      settings: see `SplatSettings`; its defaults if None.
      monitor: told of the work; silent if None.

    Raises:
      InputError: if the generator shows nothing solid.
      Stopped: if the monitor asked to stop.
    """
    return fit_head(head.generator, head.latents, settings or SplatSettings(), monitor=monitor)


def fit_head(
    generator: TriPlaneGenerator,
    latents: Latents,
    settings: SplatSettings,
    *,
    monitor: Monitor | None = None,
) -> Gaussians:
    """Fit Gaussians to a generator's renders of latents; otherwise as `splat`."""
    monitor = monitor or Monitor()
    farther = {"max_yaw": _FARTHER * settings.max_yaw, "max_pitch": _FARTHER * settings.max_pitch}
    cameras = spread_cameras(generator.config, dataclasses.replace(settings, **farther))
    with monitor.task("renders to fit to"):
        renders = render_views(generator, baked(latents, settings.yaw), cameras)
    with monitor.task("surface"):
        start = surface_gaussians(renders, cameras, settings.count, settings.degree)
    white = generator.config.render.white_background
    return prune(fit(start, renders, cameras, settings.steps, white=white, monitor=monitor))


def measure_splat(
    gaussians: Gaussians,
    generator: TriPlaneGenerator,
    latents: Latents,
    settings: SplatSettings,
    *,
    count: int = 24,
) -> dict[str, float]:
    """Compare a splat with the generator's renders from cameras that the fit has not seen.

    Args:
      gaussians: fitted with these settings.
      generator: as they were fitted to.
      latents: likewise.
      settings: tell which latent, and where the cameras may be.
      count: cameras.

    Returns:
      `psnr` [dB] and `lpips`, means over the cameras, and `psnr_least` and `lpips_most`. No `lpips`
      of pictures that are too small for its network.
    """
    among = dataclasses.replace(settings, views=count)
    cameras = spread_cameras(generator.config, among, first=settings.views + 1)
    renders = render_views(generator, baked(latents, settings.yaw), cameras)
    side, white = renders.image.shape[1], generator.config.render.white_background
    shown = render_gaussians(gaussians, cameras, side, white=white) * 2 - 1
    pairs = [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(shown, renders.image, strict=True)]
    psnr = [float(_psnr(a, b)) for a, b in pairs]
    measures = {"psnr": np.mean(psnr), "psnr_least": np.min(psnr)}
    network = load_networks(side).lpips
    if side >= network.backbone.min_side:
        lpips = [float(_lpips(network, a, b)) for a, b in pairs]
        measures |= {"lpips": np.mean(lpips), "lpips_most": np.max(lpips)}
    return {name: float(value) for name, value in measures.items()}


_psnr, _lpips = jax.jit(metrics.psnr), jax.jit(metrics.lpips)


def baked(latents: Latents, yaw: float | None) -> Latents:
    """The latent at a yaw alone, or all of them if there is none."""
    if yaw is None or len(latents) == 1:
        return latents
    return repeat_latents(latents_at(latents, jnp.float32(yaw_azimuth(yaw))), np.zeros(1))


def spread_cameras(config: GeneratorConfig, settings: SplatSettings, *, first: int = 1) -> Cameras:
    """Cameras [V] over the settings' yaws and pitches, evenly: points of a Halton sequence.

    Args:
      config: tells the distance and the focal length.
      settings: how many, and how far to either side.
      first: where in the sequence they start; later ones lie between earlier ones.
    """
    places = np.arange(first, first + settings.views)
    yaw, pitch = (
        (2 * _radical_inverse(places, base) - 1) * most
        for base, most in ((2, settings.max_yaw), (3, settings.max_pitch))
    )
    return yaw_pitch_camera(
        yaw.astype(np.float32),
        pitch.astype(np.float32),
        radius=config.camera_radius,
        focal=config.focal,
    )


def _radical_inverse(index: np.ndarray, base: int) -> np.ndarray:
    """Digits of numbers, mirrored at the point: the Halton sequence of a base, in (0, 1)."""
    result, scale = np.zeros(len(index)), 1.0 / base
    while index.any():
        result, index, scale = result + scale * (index % base), index // base, scale / base
    return result


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class _Targets:
    """What one view shows: image [H, W, 3] in [0, 1], opacity [H, W], depth [H, W]."""

    image: Array
    opacity: Array
    depth: Array


@jax.jit
def _targets(renders: Renders) -> _Targets:
    side = renders.image.shape[1]
    shape = (*renders.image.shape[:1], side, side)
    return _Targets(
        image=jnp.clip((renders.image + 1) / 2, 0, 1),
        opacity=jax.image.resize(renders.opacity, shape, "linear"),
        depth=jax.image.resize(renders.depth, shape, "linear"),
    )


def fit(
    start: Gaussians,
    renders: Renders,
    cameras: Cameras,
    steps: int,
    *,
    white: bool,
    monitor: Monitor,
) -> Gaussians:
    """Fit Gaussians to views, one a step in a random order, by Adam.

    Args:
      start: from where.
      renders: of V views: image, opacity and depth count.
      cameras: [V] of them.
      steps: of Adam; the rates fall exponentially to a twentieth.
      white: whether what is behind is white; else black.
      monitor: told of the steps.
    """
    targets, side = _targets(renders), renders.image.shape[1]
    num_pixels = _pixels_needed(start, cameras, side)
    rates = _rates(start.degree, cameras, side)
    gaussians: Any = start
    adam = _ADAM.init(gaussians)
    rng, order = np.random.default_rng(0), []
    told: list[dict[str, Array]] = []
    with monitor.stages([""], ["splat"], steps, [0]):
        for step in range(steps):
            order = order or list(rng.permutation(len(cameras)))
            view = order.pop()
            camera = cameras[view]
            lists = overlaps(
                _project(gaussians, camera, side), side, length=_LIST_LENGTH, num_pixels=num_pixels
            )
            now = jax.tree.map(lambda rate, t=step / steps: rate * _LAST_RATE**t, rates)
            gaussians, adam, terms = _advance(
                gaussians, adam, camera, lists, targets, view, now, white
            )
            told.append(terms)
            if len(told) == _STEPS_A_REPORT or step == steps - 1:
                values = {k: np.array([t[k] for t in told]) for k in told[0]}
                monitor.steps("", "splat", step + 1 - len(told), values)
                told = []
                if monitor.stop_requested():
                    raise Stopped
    return gaussians


_ADAM = optax.scale_by_adam(eps=1e-15)
_project = jax.jit(project, static_argnums=2)


def _pixels_needed(gaussians: Gaussians, cameras: Cameras, side: int) -> int:
    """How many pixels any view shows something in, with a margin: one program serves all views."""
    views = np.linspace(0, len(cameras) - 1, min(len(cameras), 8)).round().astype(int)
    most = 0
    for view in views:
        lists = overlaps(_project(gaussians, cameras[view], side), side, length=1)
        most = max(most, int((np.asarray(lists.entries)[0] < len(gaussians)).sum()))
    return min(side * side, -(-int(most * 1.15) // 1024) * 1024)


def _rates(degree: int, cameras: Cameras, side: int) -> Any:
    """Largest step of each field, as Adam takes them; of centres by what a pixel shows."""
    distance = np.linalg.norm(np.asarray(cameras.position), axis=-1).mean()
    pixel = distance / (side * np.asarray(cameras.intrinsics)[..., 0, 0].mean())
    first = np.arange((degree + 1) ** 2)[:, None] == 0
    harmonics = np.where(first, _COLOUR_RATE, _BEYOND * _COLOUR_RATE)
    rates: dict[str, Any] = {**_RATES, "centres": _RATES["centres"] * pixel}
    return Gaussians(**rates, harmonics=jnp.asarray(harmonics))


@jax.jit
def _advance(gaussians, adam, camera, lists, targets, view, rates, white):
    target = jax.tree.map(lambda x: x[view], targets)
    (_, terms), slopes = jax.value_and_grad(_loss, has_aux=True)(
        gaussians, camera, lists, target, white
    )
    moves, adam = _ADAM.update(slopes, adam)
    return jax.tree.map(lambda x, move, rate: x - rate * move, gaussians, moves, rates), adam, terms


def _loss(gaussians, camera, lists: Overlaps, target: _Targets, white):
    side = target.image.shape[0]
    out = blend(project(gaussians, camera, side), lists, side)
    background = jnp.where(white, 1.0, 0.0)

    def whole(values, empty):
        picture = jnp.full((side * side, *values.shape[1:]), empty)
        return picture.at[lists.pixels].set(values).reshape(side, side, *values.shape[1:])

    image = whole(out.colours + background * (1 - out.opacity)[:, None], background)
    opacity, depth = whole(out.opacity, 0.0), whole(out.depth, 0.0)
    solid = target.opacity > 0.99
    terms = {
        "colour": jnp.mean(jnp.abs(image - target.image)),
        "structure": 1 - _similarity(image, target.image),
        "opacity": jnp.mean(jnp.abs(opacity - target.opacity)),
        "depth": jnp.mean(jnp.where(solid, jnp.abs(depth - opacity * target.depth), 0.0)),
    }
    return sum(_WEIGHTS[name] * term for name, term in terms.items()), terms


def _similarity(a: Array, b: Array) -> Array:
    """Structural similarity of images [H, W, 3], SSIM, with blurs as products of matrices."""
    side = a.shape[0]
    place = np.arange(side)
    taps = np.exp(-((place[:, None] - place) ** 2) / (2 * 1.5**2))
    taps = jnp.asarray(taps / taps.sum(1, keepdims=True), jnp.float32)
    maps = jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1)
    blurred = jnp.einsum("ih,hwc,jw->ijc", taps, maps, taps)
    mean_a, mean_b, aa, bb, ab = jnp.split(blurred, 5, axis=-1)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    contrast = (2 * (ab - mean_a * mean_b) + c2) / (aa - mean_a**2 + bb - mean_b**2 + c2)
    return jnp.mean(luminance * contrast)


def prune(gaussians: Gaussians) -> Gaussians:
    """Leave out Gaussians that are hardly seen from anywhere."""
    kept = np.asarray(jax.nn.sigmoid(gaussians.opacity_logits)) > _PRUNED
    return jax.tree.map(lambda x: x[kept], gaussians)


def render_gaussians(
    gaussians: Gaussians, cameras: Cameras, side: int, *, white: bool
) -> np.ndarray:
    """Render from cameras [V] as the fit sees it, lists of a hundred Gaussians a pixel.

    Returns:
      [V, side, side, 3] in [0, 1].
    """
    pictures = []
    for view in range(len(cameras)):
        footprints = _project(gaussians, cameras[view], side)
        out = _blend(footprints, overlaps(footprints, side, length=_ALL), side)
        pictures.append(out.colours + (1 - out.opacity)[:, None] * white)
    return np.clip(np.stack(pictures), 0, 1).reshape(-1, side, side, 3)


_blend = jax.jit(blend, static_argnums=2)
