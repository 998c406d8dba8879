"""Camera labels refined before an inversion, in copies of the frames beside its run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from experiments import refine_cameras
from experiments.disk import plain
from experiments.errors import InputError
from experiments.inversion_args import Args
from experiments.inversion_plan import Plan, Video
from experiments.progress import Progress
from experiments.video_list import find_videos

_USUAL = refine_cameras.Args()


def refine_first(
    args: Args, plan: Plan, progress: Progress, usual: refine_cameras.Args = _USUAL
) -> Args:
    """Copy the frames to RUN_frames with refined labels, and say that those are to be inverted.

    A copy that an earlier call finished with the same settings is used again. Of several videos,
    one whose labels cannot be refined keeps the given ones.

    Args:
      args: of `experiments.invert`.
      plan: of the same, the frames checked.
      progress: told what is done.
      usual: of the refinement, save what `args` say of frames, generator, crop and seed.

    Raises:
      InputError: if the labels of a single video cannot be refined.
    """
    home = Path(f"{args.run}_frames")
    if not plan.several:
        refine_labels(args, plan.videos[0], home, usual)
        return replace(args, frames=(home,))
    copies = {name: home / name for name in plan.names}  # other processes' videos among them
    given = find_videos(args.frames)
    copies |= {name: given[name] for name in plan.refused}
    for video in plan.videos:
        try:
            refine_labels(args, video, copies[video.name], usual)
        except InputError as error:
            progress.say(f"{video.name}: the cameras stay as given: {error}")
            copies[video.name] = video.folder
    return replace(args, frames=tuple(copies.values()))


def refine_labels(args: Args, video: Video, copy: Path, usual: refine_cameras.Args) -> None:
    """Refine the labels of one video, unless that is done.

    Raises:
      InputError: if they cannot be.
    """
    wanted = replace(
        usual, frames=video.folder.resolve(), output=copy, generator=args.generator, crop=args.crop,
        views=min(usual.views, len(video.frames)), seed=args.seed, overwrite=True,
    )  # fmt: skip
    if _settings(copy) != plain(wanted):
        refine_cameras.main(wanted)


def _settings(folder: Path) -> dict | None:
    """With which a folder of refined frames was made; None of one that is not finished."""
    try:
        return json.loads((folder / refine_cameras.MARK).read_text()).get("settings")
    except (OSError, ValueError):
        return None
