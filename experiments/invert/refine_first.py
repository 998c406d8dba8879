"""Refinement of camera labels before an inversion, in copies of the frames beside its run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from eg3d_jax.errors import InputError
from experiments.invert.plan import Plan, RunVideo, prepare_video
from experiments.refined_folder import (
    MARK,
    RefinementSettings,
    check_output,
    check_settings,
    write_refined,
)
from experiments.runs.folder import RunFolder
from experiments.runs.settings import OtherSettings, check_same
from inversion.files import to_json
from inversion.monitor import Monitor

_USUAL = RefinementSettings()
# Settings of a refinement that say where files lie or what may be removed. The files themselves are
# known by their fingerprints.
_PLACES = frozenset({"frames", "output", "generator", "truth", "overwrite"})
_SOURCE = ("frame_labels", "frame_pictures", "generator")


def refine_first(plan: Plan, monitor: Monitor, usual: RefinementSettings = _USUAL) -> Plan:
    """Copy the frames to RUN_frames with refined labels, and plan to invert those.

    A copy that an earlier call finished of the same frames with the same settings is used again. Of
    several videos, one whose labels cannot be refined keeps the given ones.

    Args:
      plan: of the run, the frames checked.
      monitor: shows it on its screen.
      usual: settings of the refinement, but for frames, generator, masks, crop and seed, which are
        those of the run.

    Raises:
      InputError: if the labels of a single video cannot be refined, or differ from its run's.
    """
    home = refined_home(plan.options.run)
    videos, refused = [], dict(plan.refused)
    for video in plan.videos:
        copy = home / video.name
        try:
            settings = refinement_settings(plan, video, copy, usual)
            refine_labels(plan, video, settings, monitor)
            videos.append(prepare_video(plan, video.name, copy, video.run))
        except InputError as error:
            if not plan.several:
                raise
            if isinstance(error, OtherSettings):
                refused[video.name] = error.reraise_unless_frames_changed()
                continue
            monitor.say(f"{video.name}: the cameras stay as given: {error}")
            videos.append(video)
    return replace(plan, videos=videos, refused=refused)


def refined_home(run: Path) -> Path:
    """Folder beside a run's in which the frames are copied with refined labels."""
    run = run.resolve()  # which '.' and '..' do not name
    return run.parent / f"{run.name}_frames"


def refinement_settings(
    plan: Plan, video: RunVideo, copy: Path, usual: RefinementSettings
) -> RefinementSettings:
    """Settings of the refinement that copies one video's frames to `copy`."""
    return replace(
        usual, frames=video.folder.resolve(), output=copy, generator=plan.models.folder,
        mask_background=plan.options.config.mask_background or None, crop=plan.options.crop,
        views=min(usual.views, len(video.frames)), seed=plan.options.seed, overwrite=True,
    ).settled(video.frames)  # fmt: skip


def refine_labels(
    plan: Plan, video: RunVideo, settings: RefinementSettings, monitor: Monitor
) -> None:
    """Refine the labels of one video, unless an earlier run did.

    Args:
      plan: of the run.
      video: whose frames are copied.
      settings: of the refinement.
      monitor: receives progress.

    Raises:
      OtherSettings: if a run that is resumed began with labels refined otherwise.
      InputError: if they cannot be refined.
    """
    source = {name: video.settings[name] for name in _SOURCE}
    made, wanted = _made(settings.output), _depends_on(to_json(settings)) | source
    if made is not None:
        if RunFolder.has_run(video.run) and not plan.options.overwrite:
            # Of copies from before it was noted.
            unknown = source | {"mask_background": wanted["mask_background"]}
            return check_same(settings.output, unknown | made, wanted)
        if {"mask_background": False} | made == wanted:
            return None
    check_settings(settings)
    output = check_output(video.frames, settings)
    write_refined(
        plan.models.generator, video.frames, settings, output,
        networks=plan.models.networks, monitor=monitor, source=source,
    )  # fmt: skip
    return None


def _depends_on(settings: dict) -> dict:
    """Select the settings of a refinement on which the refined labels depend."""
    return {name: value for name, value in settings.items() if name not in _PLACES}


def _made(folder: Path) -> dict | None:
    """Settings and source of a folder of refined frames; None if it is not finished."""
    try:
        content = json.loads((folder / MARK).read_text())
        return _depends_on(content["settings"]) | content.get("source", {})
    except (OSError, ValueError, LookupError, TypeError):
        return None
