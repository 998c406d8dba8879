"""What the videos of a run share, made once: statistics, compiled steps, memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from experiments.invert.args import Args
from experiments.invert.fitting import Fit, Fitter, steps_done
from experiments.invert.memory import Spread, device_memory, fit_in_memory
from experiments.invert.plan import Plan, Video
from experiments.invert.stage_runner import StageRunner
from experiments.progress import Progress
from experiments.runs.folder import STATES
from inversion.fitting.programs import Programs, video_mesh
from inversion.fitting.stages import Stage, maps_to_fit, tuning_stage
from inversion.latents import mean_latent, repeat_latents
from inversion.views import Views

_VIDEOS_AT_ONCE = {"cpu": 1}
_OTHER_VIDEOS_AT_ONCE = 8


def prepare_fitter(args: Args, plan: Plan, progress: Progress) -> tuple[Fitter, int]:
    """The fitter, its steps compiled and within memory, and how many videos make a batch.

    Raises:
      InputError: if the steps do not fit in memory however little is done at once.
    """
    with progress.task("statistics of the latent space"):
        statistics = mean_latent(plan.generator)
    mesh = video_mesh()
    largest = max(plan.videos, key=lambda video: len(video.methods[-1].frames))
    done = finished_stages(plan) if args.resume else set()
    wide, tried = widest(args, plan, mesh.size), []

    def peak(spread: Spread) -> int:
        # What need not be divided stays as it is: that is another, faster program.
        config = dataclasses.replace(
            plan.config,
            views_at_once=spread.views if spread.views < wide.views else plan.config.views_at_once,
            rays_at_once=spread.rays if spread.rays < wide.rays else plan.config.rays_at_once,
        )
        programs = Programs(plan.generator, plan.networks, config, mesh)
        fitter = Fitter(
            generator=plan.generator,
            networks=plan.networks,
            w_statistics=statistics,
            config=config,
            programs=programs,
            runner=StageRunner(programs, progress, args.save_steps),
            seed=args.seed,
        )
        tried[:] = [fitter]  # the compiled steps of earlier tries are let go
        with progress.task("compiling the steps"):
            return planned_bytes(fitter, largest, spread.videos, done)

    budget = device_memory() if args.memory_budget is None else 1e9 * args.memory_budget
    spread = fit_in_memory(peak, wide, budget, progress)
    return tried[-1], spread.videos * mesh.size


def widest(args: Args, plan: Plan, devices: int) -> Spread:
    """All that the user allows at once."""
    usual = _VIDEOS_AT_ONCE.get(jax.default_backend(), _OTHER_VIDEOS_AT_ONCE)
    views = max(len(method.frames) for video in plan.videos for method in video.methods)
    views = min(views, plan.config.views_per_step or views)
    side = plan.generator.config.neural_side
    return Spread(
        videos=min(args.videos_at_once or usual, -(-len(plan.videos) // devices)),
        views=min(args.views_at_once or views, views),
        rays=args.rays_at_once or side * side,
    )


def finished_stages(plan: Plan) -> set[str]:
    """Names of the stages that an earlier run has finished for all videos."""
    methods = [method for video in plan.videos for method in video.methods]
    steps = {method.tuning_stage: plan.config.tuning.num_steps for method in methods}
    for method in methods:
        found = plan.config.latent if method.knots is None else plan.config.latents
        steps[method.latent_stage] = found.num_steps
    done = [steps_done(video.run / STATES, video.methods) for video in plan.videos]
    return {name for name, wanted in steps.items() if all(d.get(name) == wanted for d in done)}


def planned_bytes(fitter: Fitter, video: Video, videos: int, done: Collection[str]) -> int:
    """Peak memory on each device while videos like the given one are inverted, so many at once.

    Compiles every kind of step for it but the stages already done; they are used afterwards.
    """
    stages = [stage for name, stage in planned_stages(fitter, video) if name not in done]
    with ThreadPoolExecutor() as pool:
        compiled = list(pool.map(lambda stage: _compile(fitter, stage, videos), stages))
    tuned = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(fitter.generator))
    return max(compiled, default=0) + videos * len(video.methods) * tuned


def planned_stages(fitter: Fitter, video: Video) -> list[tuple[str, Stage]]:
    """All stages of a video's methods as shapes, by name, without those that have no steps."""
    config, found = fitter.generator.config, []
    side, key = config.image_side, jax.random.key(0)
    ws = jnp.zeros((config.num_ws, config.w_dim))
    maps = maps_to_fit(fitter.generator, fitter.config)
    start = Fit(repeat_latents(ws, jnp.zeros(1)), fitter.generator, maps)
    for method in video.methods:
        cameras = video.frames.cameras[method.frames]
        images = jax.ShapeDtypeStruct((len(method.frames), side, side, 3), jnp.float32)

        def first(images, method=method, cameras=cameras) -> Stage:
            views = Views(images=images, cameras=cameras)
            return fitter.first_stage(method, views, start, key)

        def second(stage: Stage) -> Stage:
            return tuning_stage(fitter.generator, fitter.config, stage, stage.state, key)

        stage = jax.eval_shape(first, images)
        found.append((method.latent_stage, stage))
        found.append((method.tuning_stage, jax.eval_shape(second, stage)))
    return [(name, stage) for name, stage in found if stage.schedule.num_steps]


def _compile(fitter: Fitter, stage: Stage, videos: int) -> int:
    mesh = fitter.programs.mesh
    count = mesh.size * (videos if stage.shares_generator else 1)
    spread = NamedSharding(mesh, PartitionSpec("videos"))

    def stacked(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype, sharding=spread)

    state, own = jax.tree.map(stacked, (stage.state, stage.own))
    return fitter.programs.compiled(stage, state, own).bytes
