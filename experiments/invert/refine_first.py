"""Camera labels refined before an inversion, in copies of the frames beside its run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from eg3d_jax.errors import InputError
from experiments import refine_cameras
from experiments.invert.args import Args
from experiments.invert.plan import Plan, RunVideo, prepare_video
from experiments.progress import Progress
from experiments.runs.folder import RunFolder
from experiments.runs.settings import OtherSettings, check_same
from inversion.files import plain, write_json

_USUAL = refine_cameras.Args()
# Settings of a refinement that say where things lie or what may be removed; what lies there is
# known by its own settings.
_PLACES = frozenset({"frames", "output", "generator", "truth", "overwrite"})
_SOURCE = ("frame_labels", "frame_pictures", "generator")


def refine_first(
    args: Args, plan: Plan, progress: Progress, usual: refine_cameras.Args = _USUAL
) -> Plan:
    """Copy the frames to RUN_frames with refined labels, and plan to invert those.

    A copy that an earlier call finished of the same frames with the same settings is used again. Of
    several videos, one whose labels cannot be refined keeps the given ones.

    Args:
      args: of `experiments.invert`.
      plan: of the same, the frames checked.
      progress: told what is done.
      usual: of the refinement, save what `args` say of frames, generator, crop and seed.

    Raises:
      InputError: if the labels of a single video cannot be refined, or its run goes on with others.
    """
    run = args.run.resolve()  # which '.' and '..' do not name
    home = run.parent / f"{run.name}_frames"
    videos, refused = [], dict(plan.refused)
    for video in plan.videos:
        copy = home / video.name
        try:
            refine_labels(args, video, copy, usual)
            videos.append(prepare_video(args, plan, video.name, copy, video.run))
        except InputError as error:
            if not plan.several:
                raise
            if isinstance(error, OtherSettings):
                refused[video.name] = error.of_one_video()
                continue
            progress.say(f"{video.name}: the cameras stay as given: {error}")
            videos.append(video)
    return replace(plan, videos=videos, refused=refused)


def refine_labels(args: Args, video: RunVideo, copy: Path, usual: refine_cameras.Args) -> None:
    """Refine the labels of one video, unless that is done.

    Raises:
      OtherSettings: if a run of it has begun with labels refined otherwise, and will go on.
      InputError: if they cannot be refined.
    """
    wanted = replace(
        usual, frames=video.folder.resolve(), output=copy, generator=args.generator, crop=args.crop,
        views=min(usual.views, len(video.frames)), seed=args.seed, overwrite=True,
    )  # fmt: skip
    now = _depends_on(plain(wanted)) | {name: video.settings[name] for name in _SOURCE}
    made = _made(copy)
    if made is not None:
        if RunFolder.begun(video.run) and not args.overwrite:
            unknown = {name: now[name] for name in _SOURCE}  # of copies from before it was noted
            return check_same(copy, unknown | made, now)
        if made == now:
            return None
    refine_cameras.main(wanted)
    mark = copy / refine_cameras.MARK
    write_json(mark, json.loads(mark.read_text()) | {"source": {n: now[n] for n in _SOURCE}})
    return None


def _depends_on(settings: dict) -> dict:
    """Those of a refinement's settings that its labels depend on."""
    return {name: value for name, value in settings.items() if name not in _PLACES}


def _made(folder: Path) -> dict | None:
    """With which a folder of refined frames was made; None of one that is not finished."""
    try:
        content = json.loads((folder / refine_cameras.MARK).read_text())
        return _depends_on(content["settings"]) | content.get("source", {})
    except (OSError, ValueError, LookupError, TypeError):
        return None
