"""Multi-view and multi-latent inversion: pictures of a head in, latents and a tuned generator out.

The order of all work: what is fitted is chosen (`Method`), the steps are compiled for as much at
once as fits in memory (`prepare`), videos of equal shape are fitted together, method by method
(`Fitter.fit`), each by a stage that finds latents and one that tunes the generator around them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from eg3d_jax.cameras import FRONTAL, Cameras, azimuth
from eg3d_jax.errors import DiskFullError, InputError, is_disk_full, is_out_of_memory
from eg3d_jax.generator import Origin, TriPlaneGenerator
from inversion.cluster import Cluster, cluster_at, work_through
from inversion.config import InversionConfig
from inversion.features.networks import load_networks
from inversion.fitting.memory import BatchSizes, Resources, device_memory, fit_in_memory, within
from inversion.fitting.programs import Programs, video_mesh
from inversion.fitting.runner import StageJob, StageResult, StageRunner
from inversion.fitting.stages import (
    FirstStage,
    KnotStage,
    LatentStage,
    Stage,
    maps_to_fit,
    tuning_stage,
)
from inversion.fitting.states import Store
from inversion.fitting.steps import tuned_generator
from inversion.frames.folder import Frames, check_masks, read_images, resized_masks
from inversion.latents import Latents, WStatistics, mean_latent
from inversion.methods import Method, choose_methods, place_knots
from inversion.monitor import Monitor
from inversion.noise_maps import with_noise_maps
from inversion.objectives import FeatureNetworks, Targets, prepare_targets
from inversion.outbox import Outbox
from inversion.result import Inversion
from inversion.views import Views, ascending_azimuths
from inversion.warm_start import Start, StartLike, start_of

_VIDEOS_AT_ONCE = {"cpu": 1}
_OTHER_VIDEOS_AT_ONCE = 8


def invert(
    generator: TriPlaneGenerator,
    frames: Frames | Views,
    config: InversionConfig,
    *,
    key: Array,
    start: StartLike | None = None,
    networks: FeatureNetworks | None = None,
    store: Store | None = None,
    monitor: Monitor | None = None,
) -> Inversion:
    """Fit latents, then the generator, to several views of one head.

    Args:
      generator: any with weights; it stays as it is.
      frames: the views to fit, all of them: `load_frames(...).evenly(7)`, or pictures [V, H, W, 3]
        with their cameras.
      config: `paper()`, `quick()` or your own; with `num_latents` above 1 a latent is fitted to
        all views first, then one to each of so many views.
      key: of all draws; the same key gives the same result.
      start: latents to start from instead of the mean one: an inversion, latents, numbers [L, D]
        or [K, L, D], or the path of a file of them, such as a run's result/latents.npz (see
        `warm_start.start_of`). Several are interpolated by azimuth. Where several are fitted, each
        starts there at once, and no stage of one latent goes before.
      networks: that the losses look through; LPIPS alone, for the generator's size, if None.
      store: where states are kept, so that a later call with the same arguments goes on from them;
        `StateFolder(path)`, or nowhere.
      monitor: told of every step; silent if None.

    Returns:
      The inversion; see `Inversion.stopped` of stages that ended early.

    Raises:
      InputError: if the views cannot be fitted so, or a loss is not finite at the first step.
      Stopped: if the monitor asked for it.
      DiskFullError: if a state could not be saved.
    """
    networks = networks or load_networks(generator.config.image_side)
    begun = None if start is None else start_of(start, generator)
    methods = plan_methods(frames, config, networks, start=begun)
    video = Video(name="", frames=frames, methods=methods, start=begun)
    fitter, _ = prepare(generator, [video], config, key=key, networks=networks, monitor=monitor)
    found = None
    for method in methods:
        job = Job(video=video, method=method, start=found or begun, store=store or Store())
        found = fitter.fit([job])[0]
        check_usable(found)
    assert found is not None  # there is a method at least
    return found


def invert_videos(  # noqa: PLR0913  # one more than usual, so that a cluster is one word more
    generator: TriPlaneGenerator,
    videos: Sequence[Frames | Views],
    config: InversionConfig,
    *,
    key: Array,
    networks: FeatureNetworks | None = None,
    resources: Resources | None = None,
    stores: Sequence[Store] = (),
    monitor: Monitor | None = None,
    cluster: Cluster | str | None = None,
) -> list[Inversion | Exception]:
    """Invert the heads of several videos, those of equal shape together.

    Args:
      generator: see `invert`.
      videos: views of each, see `invert`.
      config: of all of them; a video with fewer views than `num_latents` gets one for each.
      key: see `invert`; all videos draw alike, as if each were inverted alone. Where a step draws
        some of the views (`views_per_step`), those with fewer views than others share the compiled
        steps, and draw otherwise than alone.
      networks: see `invert`.
      resources: how much is worked on at once.
      stores: one for each video, or none.
      monitor: see `invert`; videos are named "0", "1", ...
      cluster: whose workers invert them, or its address; None for this process. Stores are then
        opened by the workers, so that a `StateFolder` must lie on a disk that all of them see.

    Returns:
      The inversions in the order of `videos`; in place of one that failed, its exception.

    Raises:
      InputError: if views cannot be fitted so, the steps do not fit in memory, or the cluster
        cannot be used.
      ValueError: if there are not as many stores as videos.
    """
    if not videos:
        return []
    networks = networks or load_networks(generator.config.image_side)
    most = max(map(len, videos))
    named = [
        Video(
            name=str(i), frames=frames, methods=plan_methods(frames, config, networks),
            most_views=most,
        )
        for i, frames in enumerate(videos)
    ]  # fmt: skip
    kept = zip([video.name for video in named], stores, strict=True) if stores else ()
    work = _Work(
        generator=generator, config=config, key=key, networks=networks, resources=resources,
        largest=largest_video(named), count=len(named), stores=dict(kept),
    )  # fmt: skip
    found: dict[str, Inversion | Exception] = {}
    if cluster is None:
        worker = _VideoWorker(work, monitor or Monitor(), lambda pair: found.update([pair]))
        for batch in batches(named, worker.at_once):
            worker.work(batch, again=False)
    else:
        work_through(
            cluster_at(cluster),
            work.on_worker,
            lambda at_once: batches(named, at_once),
            monitor=monitor or Monitor(),
            receive=lambda pair: found.update([pair]),
            lost=lambda video, why: found.update({video.name: RuntimeError(why)}),
        )
    return [found[video.name] for video in named]


@dataclass(frozen=True, kw_only=True)
class Video:
    """Frames of one head, and the methods to fit to them.

    Attributes:
      name: empty for a single one.
      frames: all of them.
      methods: in the order in which they are fitted.
      start: latents that the first of them starts from; None for the mean latent.
      most_views: that one latent is fitted to in the videos that share compiled steps with it.
    """

    name: str
    frames: Frames | Views
    methods: Sequence[Method]
    start: Start | None = None
    most_views: int = 0

    @property
    def shape(self) -> tuple:
        """Key that is equal for videos that can be fitted together."""
        each = [(len(m.frames), 0 if m.knots is None else len(m.knots)) for m in self.methods]
        return tuple(each)

    def cameras(self, method: Method) -> Cameras:
        """Cameras [V] of the frames that a method fits."""
        return self.frames.cameras[method.frames]

    def views(self, method: Method, *, masked: bool = False) -> Views:
        """Read the frames that a method fits, with their masks if asked for."""
        if isinstance(self.frames, Views):
            found = self.frames[method.frames]
            return found if masked else dataclasses.replace(found, mask=None)
        images, mask = jnp.asarray(read_images(self.frames, method.frames)), None
        if masked and self.frames.mask is not None:
            masks = self.frames.mask[method.frames]
            mask = jnp.asarray(resized_masks(masks, self.frames.image_side))
        return Views(images=images, cameras=self.cameras(method), mask=mask)

    def names(self, method: Method) -> tuple[str, ...]:
        """Names of the frames that a method fits; 'view 0', ... for pictures without a name."""
        if isinstance(self.frames, Views):
            return tuple(f"view {i}" for i in method.frames)
        return tuple(self.frames.names[i] for i in method.frames)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method for one video.

    Attributes:
      video: whose frames are fitted.
      method: how.
      start: the inversion by `method.start`, or `video.start`; None for one latent that starts from
        the mean.
      store: of the states.
    """

    video: Video
    method: Method
    start: Inversion | Start | None
    store: Store


@dataclass(frozen=True, kw_only=True)
class Fitter:
    """Runs all stages of a method, with what all methods and videos share.

    Attributes:
      generator: as loaded.
      networks: of the losses.
      w_statistics: of the generator's mapping.
      runner: of the stages; it has the compiled steps.
      key: of the draws.
    """

    generator: TriPlaneGenerator
    networks: FeatureNetworks
    w_statistics: WStatistics
    runner: StageRunner
    key: Array

    @property
    def config(self) -> InversionConfig:
        """Schedules and weights."""
        return self.runner.programs.config

    def fit(self, jobs: Sequence[Job]) -> list[Inversion]:
        """Fit one method to videos of equal shape, from where an interrupted run left them.

        They share the steps that find latents; then each device tunes one generator at a time.
        """
        key_latents, key_tuning = jax.random.split(self.key)
        firsts = [
            self.first_stage(
                job.video,
                job.method,
                job.video.views(job.method, masked=self.config.mask_background),
                job.start,
                key_latents,
            )
            for job in jobs
        ]
        ends = self.runner.run([
            _stage_job(job, job.method.latent_stage, first)
            for job, first in zip(jobs, firsts, strict=True)
        ])  # fmt: skip
        found, at_once = [], self.runner.programs.mesh.size
        for i in range(0, len(jobs), at_once):
            group = slice(i, i + at_once)
            tuned = self._tune(jobs[group], firsts[group], ends[group], key_tuning)
            for results in zip(jobs[group], firsts[group], ends[group], tuned, strict=True):
                found.append(self._inversion(*results))
        return found

    def first_stage(
        self,
        video: Video,
        method: Method,
        views: Views,
        start: Inversion | Start | None,
        key: Array,
    ) -> FirstStage:
        """Make the stage that fits the latent or the latents."""
        start = Start.of(start) if isinstance(start, Inversion) else start
        if method.knots is None:
            targets = prepare_targets(self.networks, *self._filled(video, views))
            begun = start and (start.at(np.array([FRONTAL]))[0], start.noise_maps)
            return LatentStage.start(
                self.generator, self.w_statistics, self.config, targets, key, begun
            )
        if start is None:
            raise ValueError(f"{method.name} starts from the inversion with one latent; give it")
        targets: Targets = prepare_targets(self.networks, views)
        with jax.ensure_compile_time_eval():  # cameras are known where only shapes are planned
            angles = ascending_azimuths(azimuth(views.cameras))[method.knots]
        latents = Latents(w_plus=start.at(angles), azimuth=jnp.asarray(angles, jnp.float32))
        return KnotStage.begin(method, self.config, targets, latents, start.noise_maps, key)

    def _filled(self, video: Video, views: Views) -> tuple[Views, int | None]:
        """Repeat the last view where a step draws some of the views; how many are fitted.

        What is compiled for other methods and videos, with more views, can then be shared.
        """
        most = max(video.most_views, *(len(method.frames) for method in video.methods))
        per_step = self.config.views_per_step
        if len(views) >= most or per_step is None or per_step >= most:
            return views, None
        filled = views[np.minimum(np.arange(most), len(views) - 1)]
        # A lone view is fitted as often as it is there.
        return filled, None if len(views) == 1 else len(views)

    def _tune(
        self,
        jobs: Sequence[Job],
        firsts: Sequence[FirstStage],
        ends: Sequence[StageResult],
        key: Array,
    ) -> list[StageResult | None]:
        """Run the tuning stages to their end; None if they have no steps."""
        if not self.config.tuning.num_steps:
            return [None for _ in jobs]
        stages = [
            tuning_stage(first, self.generator, self.config, end.state, key)
            for first, end in zip(firsts, ends, strict=True)
        ]
        return [*self.runner.run([
            _stage_job(job, job.method.tuning_stage, stage)
            for job, stage in zip(jobs, stages, strict=True)
        ])]  # fmt: skip

    def _inversion(
        self, job: Job, first: FirstStage, end: StageResult, tuned: StageResult | None
    ) -> Inversion:
        method, video = job.method, job.video
        maps = first.noise_maps(end.state)
        generator = with_noise_maps(self.generator, maps)
        results = {method.latent_stage: end}
        if tuned is not None:
            generator = tuned_generator(generator, tuned.state)
            results[method.tuning_stage] = tuned
        return Inversion(
            latents=first.latents(end.state, azimuth(self.generator.frontal_camera())),
            generator=generator,
            noise_maps=maps,
            names=video.names(method),
            cameras=video.cameras(method),
            terms={name: dict(result.terms) for name, result in results.items()},
            seconds={name: result.seconds for name, result in results.items()},
            stopped=tuple(r.stopped for r in results.values() if r.stopped),
            usable=all(int(r.state.step) for r in results.values() if r.stopped),
            metadata=getattr(self.generator, "origin", Origin()).metadata,
        )


class Hooks:
    """Callbacks of `fit_batch` for each video; these keep nothing."""

    def open(self, video: Video, stack: ExitStack) -> Store:
        """Open the store of a video's states; contexts entered into `stack` end with the batch."""
        del video, stack
        return Store()

    def fitted(self, job: Job, found: Inversion) -> None:
        """Receive the inversion by one method."""

    def done(self, video: Video) -> None:
        """Note that all methods of a video are done."""

    def failed(self, video: Video, error: Exception) -> None:
        """Receive the error of a video; the others go on unless it is raised."""
        raise error


def fit_batch(fitter: Fitter, batch: Sequence[Video], hooks: Hooks) -> None:
    """Fit all methods to videos of one shape; one that fails leaves the others alone.

    Errors that would hit every other video as well, a full disk or memory, end all.
    """
    failed: set[str] = set()

    @contextmanager
    def attempt(video: Video) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if _ends_all(error):
                raise
            failed.add(video.name)
            hooks.failed(video, error)

    with ExitStack() as stack:
        stores: dict[str, Store] = {}
        found: dict[str, dict[str, Inversion]] = {video.name: {} for video in batch}
        for video in batch:
            with attempt(video):
                stores[video.name] = hooks.open(video, stack)
        for number in range(len(batch[0].methods)):
            jobs = []
            for video in batch:
                if video.name not in failed:
                    method = video.methods[number]
                    before = method.start and found[video.name].get(method.start.name)
                    start = before or video.start
                    store = stores[video.name]
                    jobs.append(Job(video=video, method=method, start=start, store=store))
            for job, inversion in _fit(fitter, jobs, attempt):
                with attempt(job.video):
                    check_usable(inversion)
                    found[job.video.name][job.method.name] = inversion
                    hooks.fitted(job, inversion)
        for video in batch:
            if video.name not in failed:
                with attempt(video):
                    hooks.done(video)


def check_usable(found: Inversion) -> None:
    """Refuse an inversion without a step taken.

    Raises:
      InputError: if a stage ended before its first step.
    """
    if not found.usable:
        raise InputError(f"{found.stopped[0]}; check the generator and the frames")


def _fit(fitter: Fitter, jobs: list[Job], attempt) -> list[tuple[Job, Inversion]]:
    """Fit videos together; if that fails, each by itself, so that one alone can be blamed."""
    if len(jobs) > 1:
        try:
            return list(zip(jobs, fitter.fit(jobs), strict=True))
        except Exception as error:
            if _ends_all(error):
                raise
    found = []
    for job in jobs:
        with attempt(job.video):
            found.append((job, fitter.fit([job])[0]))
    return found


def _ends_all(error: Exception) -> bool:
    """Whether an error ends all videos: no other would fare better."""
    return isinstance(error, DiskFullError) or is_disk_full(error) or is_out_of_memory(error)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """All that a worker needs to know to invert videos of `invert_videos`."""

    generator: TriPlaneGenerator
    config: InversionConfig
    key: Array
    networks: FeatureNetworks
    resources: Resources | None
    largest: Video
    count: int
    stores: dict[str, Store]

    def on_worker(self, outbox: Outbox) -> _VideoWorker:
        resources = within(self.resources or Resources(), outbox.memory)
        return _VideoWorker(dataclasses.replace(self, resources=resources), outbox, outbox.send)


class _VideoWorker(Hooks):
    """Inverts batches, and sends each video's name with its last inversion or its error."""

    def __init__(self, work: _Work, monitor: Monitor, send: Callable[[tuple], None]):
        self._stores, self._send = work.stores, send
        self._found: dict[str, Inversion] = {}
        self._fitter, self.at_once = prepare(
            work.generator, [work.largest] * work.count, work.config, key=work.key,
            networks=work.networks, resources=work.resources, monitor=monitor,
        )  # fmt: skip

    def work(self, batch: Sequence[Video], *, again: bool) -> None:
        del again  # stores know
        fit_batch(self._fitter, batch, self)

    def open(self, video: Video, stack: ExitStack) -> Store:
        return self._stores.get(video.name, Store())

    def fitted(self, job: Job, found: Inversion) -> None:
        self._found[job.video.name] = found

    def done(self, video: Video) -> None:
        self._send((video.name, self._found.pop(video.name)))

    def failed(self, video: Video, error: Exception) -> None:
        self._found.pop(video.name, None)
        self._send((video.name, error))


def plan_methods(
    frames: Frames | Views,
    config: InversionConfig,
    networks: FeatureNetworks,
    *,
    views: int | None = None,
    baseline: bool = False,
    start: Start | None = None,
) -> list[Method]:
    """Choose what is fitted to a head: one latent, and several if so configured.

    Args:
      frames: of the head.
      config: how many latents there are, and how they are spread.
      networks: tell views apart where knots are spread by change.
      views: number of frames to fit, evenly spaced in yaw; all if None. Of fewer frames all are
        taken, with no more latents than there are.
      baseline: whether the single most frontal frame is fitted as well, to compare.
      start: latents to start from. Several start there without one latent before.

    Raises:
      InputError: if there cannot be so many views or latents, or masks are wanted and missing, or
        what is fitted cannot start there.
    """
    angles = np.asarray(azimuth(frames.cameras))
    count = len(frames) if views is None else min(views, len(frames))
    latents = config.num_latents if count == views else min(config.num_latents, count)
    methods = choose_methods(angles, views=count, latents=latents, baseline=baseline)
    if config.mask_background:
        check_masks(frames, np.unique(np.concatenate([method.frames for method in methods])))
    if config.knots == "change" and latents > 1:
        last = methods[-1]
        video = Video(name="", frames=frames, methods=methods)
        methods[-1] = place_knots(last, networks, video.views(last, masked=config.mask_background))
    return methods if start is None else _from_start(methods, config, start)


def _from_start(methods: list[Method], config: InversionConfig, start: Start) -> list[Method]:
    """Leave out the method whose latent others start from: what it would find need not be found."""
    if methods[-1].start is not None:
        if config.fit_noise_maps and not start.noise_maps:
            raise InputError(
                f"{start.name}: noise maps are fitted with one latent for all views, which is left "
                "out where several start from given ones; leave fit_noise_maps or the start out"
            )
        methods = [method for method in methods if method is not methods[-1].start]
    for method in methods:
        start.check(1 if method.knots is None else len(method.knots))
    return methods


def batches(videos: Sequence[Video], size: int) -> list[list[Video]]:
    """Group videos to be fitted together: of one shape, at most `size`, nearly equal in size."""
    shapes = list(dict.fromkeys(video.shape for video in videos))
    found = []
    for shape in shapes:
        alike = [video for video in videos if video.shape == shape]
        count = -(-len(alike) // size)
        found += [alike[i * len(alike) // count : (i + 1) * len(alike) // count]
                  for i in range(count)]  # fmt: skip
    return found


def prepare(
    generator: TriPlaneGenerator,
    videos: Sequence[Video],
    config: InversionConfig,
    *,
    key: Array,
    networks: FeatureNetworks | None = None,
    resources: Resources | None = None,
    finished: Collection[str] = (),
    monitor: Monitor | None = None,
) -> tuple[Fitter, int]:
    """Compute what videos share, once: statistics, and compiled steps that fit in memory.

    Args:
      generator: as loaded.
      videos: to be inverted.
      config: schedules and weights.
      key: of the draws.
      networks: of the losses; see `invert`.
      resources: how much may be done at once.
      finished: names of stages that need not be compiled.
      monitor: told what is found.

    Returns:
      The fitter, and how many videos make a batch.

    Raises:
      InputError: if the steps do not fit in memory however little is done at once.
    """
    monitor, resources = monitor or Monitor(), resources or Resources()
    networks = networks or load_networks(generator.config.image_side)
    with monitor.task("statistics of the latent space"):
        statistics = mean_latent(generator)
    mesh = video_mesh()
    largest = largest_video(videos)
    most = largest_sizes(generator, videos, config, resources, mesh.size)

    def attempt(sizes: BatchSizes) -> tuple[int, Fitter]:
        # Undivided where it fits: that is another, faster program.
        fitting = dataclasses.replace(
            config,
            views_at_once=sizes.views if sizes.views < most.views else config.views_at_once,
            rays_at_once=sizes.rays if sizes.rays < most.rays else config.rays_at_once,
        )
        fitter = Fitter(
            generator=generator,
            networks=networks,
            w_statistics=statistics,
            runner=StageRunner(Programs(generator, networks, fitting, mesh), monitor),
            key=key,
        )
        with monitor.task("compiling the steps"):
            return planned_bytes(fitter, largest, sizes.videos, finished), fitter

    budget = device_memory() if resources.memory_budget is None else resources.memory_budget
    sizes, fitter = fit_in_memory(attempt, most, budget, monitor.say)
    return fitter, sizes.videos * mesh.size


def largest_video(videos: Sequence[Video]) -> Video:
    """The one whose steps need the most memory."""
    return max(videos, key=lambda video: len(video.methods[-1].frames))


def largest_sizes(
    generator: TriPlaneGenerator,
    videos: Sequence[Video],
    config: InversionConfig,
    resources: Resources,
    devices: int,
) -> BatchSizes:
    """Batch sizes with everything at once."""
    usual = _VIDEOS_AT_ONCE.get(jax.default_backend(), _OTHER_VIDEOS_AT_ONCE)
    views = max(len(method.frames) for video in videos for method in video.methods)
    views = min(views, config.views_per_step or views)
    side = generator.config.neural_side
    return BatchSizes(
        videos=min(resources.videos_at_once or usual, -(-len(videos) // devices)),
        views=min(config.views_at_once or views, views),
        rays=config.rays_at_once or side * side,
    )


def planned_bytes(fitter: Fitter, video: Video, videos: int, finished: Collection[str]) -> int:
    """Peak memory on each device while videos like the given one are inverted, so many at once.

    Compiles every kind of step for it, except of finished stages; the run uses what is compiled.
    """
    stages = [stage for name, stage in planned_stages(fitter, video) if name not in finished]
    # Chosen by `with`, which other threads do not hear of.
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]

    def compiled_bytes(stage: Stage) -> int:
        with jax.default_matmul_precision(precision):
            return _compile(fitter, stage, videos)

    with ThreadPoolExecutor() as pool:
        compiled = list(pool.map(compiled_bytes, stages))
    tuned = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(fitter.generator))
    return max(compiled, default=0) + videos * len(video.methods) * tuned


def planned_stages(fitter: Fitter, video: Video) -> list[tuple[str, Stage]]:
    """Shapes of all stages of a video's methods, by name, without those that have no steps."""
    config, found = fitter.generator.config, []
    side, key = config.image_side, jax.random.key(0)
    start = Start(
        w_plus=jnp.zeros((1, config.num_ws, config.w_dim)),
        azimuth=jnp.zeros(1),
        noise_maps=maps_to_fit(fitter.generator, fitter.config),
    )
    for method in video.methods:
        cameras = video.cameras(method)
        shape = (len(method.frames), side, side)
        images, mask = jax.ShapeDtypeStruct((*shape, 3), jnp.float32), None
        if fitter.config.mask_background:
            mask = jax.ShapeDtypeStruct(shape, bool)

        def first(images, mask, method=method, cameras=cameras) -> FirstStage:
            views = Views(images=images, cameras=cameras, mask=mask)
            return fitter.first_stage(video, method, views, start, key)

        def second(stage: FirstStage) -> Stage:
            return tuning_stage(stage, fitter.generator, fitter.config, stage.state, key)

        stage = jax.eval_shape(first, images, mask)
        found.append((method.latent_stage, stage))
        found.append((method.tuning_stage, jax.eval_shape(second, stage)))
    return [(name, stage) for name, stage in found if stage.schedule.num_steps]


def _compile(fitter: Fitter, stage: Stage, videos: int) -> int:
    programs = fitter.runner.programs
    count = programs.mesh.size * (videos if stage.shares_generator else 1)
    sharded = NamedSharding(programs.mesh, PartitionSpec("videos"))

    def stacked(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype, sharding=sharded)

    state, own = jax.tree.map(stacked, (stage.state, stage.own))
    return programs.compiled(stage, state, own).bytes


def _stage_job(job: Job, name: str, stage: Stage) -> StageJob:
    return StageJob(video=job.video.name, name=name, stage=stage, store=job.store)
