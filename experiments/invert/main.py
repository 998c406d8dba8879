"""Invert the head in a folder of frames: several views in, a 3D head out.

`python -m experiments.invert` shows it on the embedded generator and demo head. With weights from
`python -m convert_weights` and frames labelled as EG3D does it,
`python -m experiments.invert --generator weights/ffhq512-128 --frames video --run runs/video`.
Several folders, `--frames 'videos/*'` say, are inverted together, a run folder each. A raw video,
`--frames head.mp4`, or photos are prepared first, in a folder beside the run.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NoReturn

from eg3d_jax.errors import InputError
from experiments import command
from experiments.invert.args import Args
from experiments.invert.batch import RunMonitor
from experiments.invert.execute import execute
from experiments.invert.on_cluster import execute_on_cluster, local_copy
from experiments.invert.plan import load_models, make_plan, options_of, read_plan
from experiments.invert.prepare_first import plan_preparation, prepare_first
from experiments.invert.summary_page import SummaryFolder
from experiments.invert.videos import is_one_folder
from experiments.progress import CommandMonitor, Progress
from experiments.runs.mirror import url_of


def main(args: Args) -> bool:
    """Run the command; errors that a user can act on are `InputError`s.

    Returns:
      Whether everything went as it should: no video failed, no stage ended early.
    """
    if args.cluster is None:
        if url := url_of(args.run):
            raise InputError(f"--run {url} is for workers of a cluster; name one by --cluster")
        return invert(args)
    # Workers start in other folders.
    args = replace(args, frames=tuple(path.absolute() for path in args.frames))
    with local_copy(args.run) as (run, url):
        return invert(replace(args, run=run), url)


def invert(args: Args, url: str | None = None) -> bool:
    """The same, of a run that is kept at a URL if one is given."""
    preparation = plan_preparation(args)
    if url and (preparation.people or preparation.scenes):
        raise InputError(
            f"--run {url}: what is prepared first would lie where workers do not see it; use "
            "`eg3d-jax prepare`, and name the folders that it makes"
        )
    args = preparation.args
    if not is_one_folder(args.frames):
        overwrite = args.overwrite and not args.resume
        SummaryFolder(args.run, ()).check(resume=args.resume, overwrite=overwrite)
    progress, started = Progress(), time.perf_counter()
    monitor = RunMonitor(CommandMonitor(progress))
    if preparation.people or preparation.scenes:
        with monitor.task("reading the generator"):
            models = load_models(args.generator, args.identity, args.start_from)
        prepare_first(preparation, monitor.shown)
        plan = make_plan(args.frames, options_of(args, url), models)
    else:
        with monitor.task("reading generator and frames"):
            plan = read_plan(args, url)
    if plan.options.cluster is None:
        fine = execute(plan, monitor, progress)
    else:
        fine = execute_on_cluster(plan, progress)
    page = f"{url}/{plan.page.name}" if url else plan.page
    monitor.say(f"{page}: open it in a browser ({time.perf_counter() - started:.0f} s)")
    return fine


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(
        lambda args: 0 if main(args) else 1,
        Args,
        name="experiments.invert",
        prog=prog,
        interrupted="give the same command again",
    )
