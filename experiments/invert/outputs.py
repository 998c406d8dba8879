"""Measures, pictures, turntable and report page of a fitted method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eg3d_jax.generator import Renders
from experiments.media.pictures import colour_depth, grid, resized, save_png, to_uint8
from experiments.media.video import turntable, write_mp4
from experiments.refined_folder import read_moves
from experiments.report.latent_pictures import latent_pictures
from experiments.report.page import PictureRow, Report, write_report
from experiments.report.summary import Comparison, MethodResult
from experiments.runs.folder import RunFolder
from experiments.runs.settings import versions
from inversion.evaluation import measure_frames
from inversion.frames.folder import Frames, read_image
from inversion.methods import Method
from inversion.monitor import Monitor
from inversion.noise_maps import with_noise_maps
from inversion.pipeline import Fitter, Job
from inversion.result import Inversion, depth_range, render_views
from inversion.wording import degrees


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A fitted method and all measures of it.

    Attributes:
      method: what was fitted.
      found: latents and tuned generator.
      scores: of the tuned generator and of the latent alone, by "tuning" and "latent".
      losses: of both stages, by the same names.
      seconds: of both stages.
      renders: of the tuned generator on all frames.
    """

    method: Method
    found: Inversion
    scores: dict[str, dict[str, np.ndarray]]
    losses: dict[str, dict[str, np.ndarray]]
    seconds: dict[str, float]
    renders: Renders


def measure(
    fitter: Fitter,
    job: Job,
    found: Inversion,
    frames: Frames,
    losses: Callable[[str], dict[str, np.ndarray]],
    monitor: Monitor,
) -> Finished:
    """Measure a fitted method on all frames, its latents alone and tuned.

    Args:
      fitter: by which it was fitted.
      job: of the method.
      found: by it.
      frames: all of the video's.
      losses: all losses of a stage, also those of an earlier run that this one continues.
      monitor: told what is done.
    """
    method = job.method
    untuned = with_noise_maps(fitter.generator, found.noise_maps)
    generators = {"latent": untuned, "tuning": found.generator}
    if not fitter.config.tuning.num_steps:
        del generators["tuning"]
    scores, renders = {}, None
    with monitor.task(f"{method.name}: measuring on all frames", job.video.name):
        for stage, generator in generators.items():
            renders = render_views(generator, found.latents, frames.cameras)
            scores[stage] = measure_frames(
                fitter.networks, frames, renders, side=None, measures=_MEASURES
            )
    assert renders is not None
    names = {"latent": method.latent_stage, "tuning": method.tuning_stage}
    stages = {stage: names[stage] for stage in generators}
    return Finished(
        method=method,
        found=found,
        scores=scores,
        losses={stage: losses(name) for stage, name in stages.items()},
        seconds={stage: found.seconds.get(name, 0.0) for stage, name in stages.items()},
        renders=renders,
    )


_MEASURES = ("psnr", "lpips", "psnr_foreground", "depth_error")
TURNTABLE_FRAMES = 96
_TURNTABLE_YAW = np.radians(70.0)
_ROWS = 7


def comparison(frames: Frames, finished: Sequence[Finished]) -> Comparison:
    """Compare all methods, latent alone and tuned."""
    results = []
    for item in finished:
        for stage, scores in item.scores.items():
            results.append(
                MethodResult(
                    name=item.method.stage("tuned")
                    if stage == "tuning"
                    else item.method.latent_stage,
                    fitted=frozenset(int(i) for i in item.method.frames),
                    tuned=stage == "tuning",
                    latents=len(item.found.latents),
                    psnr=scores["psnr"],
                    lpips=scores["lpips"],
                    psnr_foreground=_known(scores.get("psnr_foreground")),
                    losses=item.losses[stage],
                    seconds=item.seconds[stage],
                )
            )
    return Comparison(yaw_degrees=frames.yaw_degrees, methods=results)


def write_metrics(run: RunFolder, frames: Frames, finished: Sequence[Finished]) -> Comparison:
    """Write metrics.json: means by group, and every frame."""
    compared = comparison(frames, finished)
    per_frame = {
        f"{item.method.name}, {stage}": {name: _known(scores.get(name)) for name in _MEASURES}
        for item in finished
        for stage, scores in item.scores.items()
    }
    run.write_json(
        "metrics.json",
        {
            "summary": compared.sentences(),
            "methods": compared.numbers(),
            "frames": {"names": frames.names, "yaw_degrees": frames.yaw_degrees, **per_frame},
        },
    )
    return compared


def write_pictures(
    run: RunFolder, frames: Frames, finished: Sequence[Finished]
) -> list[PictureRow]:
    """Write pictures/NAME.png of some frames, target | each method | depth; return the rows."""
    # Halfway between evenly spaced frames: mostly frames that were not fitted.
    chosen = np.unique(np.linspace(0, len(frames) - 1, 2 * _ROWS + 1)[1::2].round().astype(int))
    near, far = depth_range(finished[-1].renders)
    rows = []
    for i in chosen:
        target = to_uint8(read_image(frames, int(i)))
        last = finished[-1].renders
        depth = colour_depth(last.depth[i], near=near, far=far, opacity=last.opacity[i])
        shown = [target, *(to_uint8(item.renders.image[i]) for item in finished)]
        shown.append(resized(depth, frames.image_side))
        fitted = " (fitted)" if i in finished[-1].method.frames else ""
        label = f"{degrees(float(frames.yaw_degrees[i]))}{fitted}"
        rows.append(PictureRow(label=label, pictures=shown))
    picture = grid(
        [row.pictures for row in rows],
        columns=columns(finished),
        labels=[row.label for row in rows],
    )
    save_png(run.pictures / "views.png", picture)
    return rows


def _known(column: np.ndarray | None) -> np.ndarray | None:
    """Numbers of a column that are known; None where no frame has one."""
    return None if column is None or np.isnan(column).all() else column


def _counted_latents(method: Method) -> str:
    return "one latent" if method.knots is None else f"{len(method.knots)} latents"


def columns(finished: Sequence[Finished]) -> list[str]:
    """Headings of the picture rows."""
    return ["target", *(item.method.name for item in finished), "depth"]


def write_turntable(run: RunFolder, found: Inversion) -> None:
    """Write turntable.mp4: colour and depth side by side, a swing from side to side."""
    config = found.generator.config
    path = turntable(
        _TURNTABLE_YAW, TURNTABLE_FRAMES, radius=config.camera_radius, focal=config.focal
    )
    # The way back shows the same views as the way there.
    half = TURNTABLE_FRAMES // 2 + 1
    out = render_views(found.generator, found.latents, path[:half])
    near, far = depth_range(out)
    colour = to_uint8(out.image)
    depth = colour_depth(out.depth, near=near, far=far, opacity=out.opacity)
    side = config.image_side
    pictures = [
        np.concatenate([c, resized(d, side)], 1) for c, d in zip(colour, depth, strict=True)
    ]
    scale = max(1, 256 // side)
    pictures = [p.repeat(scale, 0).repeat(scale, 1) for p in pictures]
    write_mp4(run.video, [*pictures, *pictures[-2:0:-1]])


def write_page(
    run: RunFolder,
    frames: Frames,
    finished: Sequence[Finished],
    compared: Comparison,
    rows: Sequence[PictureRow],
    *,
    settings: dict,
    seconds: dict[str, float],
    notes: Sequence[str] = (),
) -> None:
    """Write report.html, with further remarks if there are any."""
    near, far = depth_range(finished[-1].renders)
    many = finished[-1].method
    report = Report(
        title=f"Inversion of {frames.folder.name}",
        intro=(
            f"{len(many.frames)} of {len(frames)} frames were fitted with "
            f"{_counted_latents(many)} and a tuned generator; every number below is measured "
            "against the true frames."
        ),
        comparison=compared,
        columns=columns(finished),
        rows=rows,
        moves=read_moves(frames),
        latents=latent_pictures(finished[-1].found) if many.knots is not None else None,
        video=run.video,
        video_caption=f"The tuned result of {many.name}: colour and depth.",
        settings=settings,
        versions=versions(),
        seconds=seconds,
        notes=[*notes, f"Depth runs from {near:.2f} (bright) to {far:.2f} world units (dark)."],
    )
    write_report(run.report, report)
