"""An inversion of videos whose pictures are one number, in processes that a test may kill."""

from __future__ import annotations

import errno
import functools
import os
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from one_number import Brightness
from rich.console import Console

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.errors import report_user_errors
from eg3d_jax.layers import Buffer
from experiments.invert.batch import RunMonitor, steps_done
from experiments.invert.on_cluster import patiently, stoppable
from experiments.progress import CommandMonitor, Progress
from experiments.runs.folder import RunLock
from experiments.runs.log import EventLog
from inversion.cluster import Cluster, work_through
from inversion.config import InversionConfig, LossWeights, StageConfig
from inversion.files import entries
from inversion.fitting import states
from inversion.fitting.programs import Programs, video_mesh
from inversion.fitting.runner import StageRunner
from inversion.fitting.states import StateFolder
from inversion.latents import WStatistics
from inversion.methods import choose_methods
from inversion.monitor import Monitor
from inversion.objectives import TERMS, FeatureNetworks
from inversion.outbox import Outbox
from inversion.pipeline import Fitter, Job, Video
from inversion.result import Inversion
from inversion.views import Views

STEPS, SAVE_STEPS, STAGES = 12, 4, 4
VIEWS = 3


class Painter(nnx.Module):
    """Every pixel and every depth is `gain` times the first number of the latent."""

    def __init__(self):
        self.gain = nnx.Param(jnp.asarray(1.0))
        self.config = SimpleNamespace(num_ws=2)

    def frontal_camera(self):
        return yaw_pitch_camera(0.0, 0.0)

    def random_draws(self, key, side=None):
        return jax.random.uniform(key)

    def tri_planes(self, ws):
        return self.gain[...] * ws[0, 0]

    def render(self, planes, camera, *, draws, rays_at_once, side=None):
        return SimpleNamespace(
            value=planes + 0.1 * draws, depth=jnp.full((2, 2), planes), opacity=jnp.ones((2, 2))
        )

    def superresolve(self, rendered, ws):
        return SimpleNamespace(image=jnp.full((4, 4, 3), rendered.value))


class Canvas(nnx.Module):
    """Noise of mean square 1, of which the first number, 0.54, shows."""

    def __init__(self):
        self.noise_map = Buffer(jnp.roll(jnp.linspace(-1.627, 1.627, 16), 6).reshape(4, 4))


class NoisyPainter(Painter):
    """Paints on a canvas."""

    def __init__(self):
        super().__init__()
        self.backbone = Canvas()

    def tri_planes(self, ws):
        return super().tri_planes(ws) + self.backbone.noise_map[0, 0]


def invert(
    folder: Path,
    names: str,
    target_lpips: float | None = None,
    *,
    fit_noise_maps: bool = False,
    num_steps: int = STEPS,
    shown: Monitor | None = None,
) -> dict[str, Inversion]:
    """Fit one latent, then two, each with tuning, to videos named by digits; go on if begun.

    Their brightness is a tenth of their name, but that of 0 is no number.
    """
    generator = NoisyPainter() if fit_noise_maps else Painter()
    stages = {name: StageConfig(num_steps=num_steps, learning_rate=0.72 / num_steps)
              for name in ("latent", "latents", "tuning")}  # fmt: skip
    config = InversionConfig(
        **stages, w_noise=0.5, target_lpips=target_lpips, fit_noise_maps=fit_noise_maps,
        weights=LossWeights(noise=0.0),
    )  # fmt: skip
    networks = FeatureNetworks(lpips=Brightness(jnp.asarray(1.0)))
    monitor = RunMonitor(shown or CommandMonitor(Progress()))
    fitter = Fitter(
        generator=generator,
        networks=networks,
        w_statistics=WStatistics(mean=jnp.zeros(2), std=jnp.asarray(1.0)),
        runner=StageRunner(Programs(generator, networks, config, video_mesh()), monitor),
        key=jax.random.key(0),
    )
    cameras = yaw_pitch_camera(np.linspace(0.5, -0.5, VIEWS), np.zeros(VIEWS))
    methods = choose_methods(np.linspace(-0.5, 0.5, VIEWS), views=VIEWS, latents=2)
    shown = {name: 0.1 * int(name) or np.nan for name in names}
    videos = {
        name: Video(
            name=name,
            frames=Views(images=jnp.full((VIEWS, 4, 4, 3), shown[name]), cameras=cameras),
            methods=methods,
        )
        for name in names
    }
    stores, fits = {}, dict.fromkeys(names)
    stack = ExitStack()
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        stores[name] = StateFolder(folder / name / "state", SAVE_STEPS)
        keep = steps_done(stores[name], methods)
        monitor.logs[name] = stack.enter_context(EventLog(folder / name, TERMS, keep=keep))
    with stack:
        for method in methods:
            jobs = [
                Job(video=videos[name], method=method, start=fits[name], store=stores[name])
                for name in names
            ]
            fits = dict(zip(names, fitter.fit(jobs), strict=True))
    for name, fit in fits.items():
        found = {key: array for key, _, array in entries((fit.latents, fit.generator))}
        np.savez(folder / name / "result.npz", **found)
    return fits


def result(folder: Path, name: str) -> dict[str, np.ndarray]:
    """What `invert` found."""
    with np.load(folder / name / "result.npz") as file:
        return dict(file)


# Nothing here takes long to compile, but it is compiled in many processes.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def main(folder: str, names: str, num_steps: int = STEPS) -> None:
    invert(Path(folder), names, num_steps=num_steps)


class Worker:
    """Inverts toy videos on a worker of a cluster, each in its folder, which tells by whom."""

    at_once = 1

    def __init__(self, folder: Path, num_steps: int, full: bool, outbox: Outbox):
        self._folder, self._num_steps, self._outbox = folder, num_steps, outbox
        if full:
            _fill_disk_before_the_last_save(num_steps)

    def work(self, batch, *, again: bool) -> None:
        (name,) = (video.name for video in batch)
        home = self._folder / name
        home.mkdir(parents=True, exist_ok=True)
        lock = RunLock(home / "run.lock")
        patiently(lock.acquire)
        try:
            (home / "pid").write_text(str(os.getpid()))
            steps, shown = self._num_steps, self._outbox
            fit = invert(self._folder, name, num_steps=steps, shown=shown)[name]
            self._outbox.send((name, fit.usable))
        finally:
            lock.release()


def _fill_disk_before_the_last_save(num_steps: int) -> None:
    """Let all of this process meet it."""
    save = states.Saver.save

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save_if_there_is_room(self, step, *rest):
        last = step == num_steps and self.folder.name == "3-views-2-latents-tuning"
        with mock.patch.object(states, "check_room", refuse) if last else nullcontext():
            save(self, step, *rest)

    states.Saver.save = save_if_there_is_room


def on_cluster(
    folder: str, names: str, num_steps: int, address: str, *, full: bool = False
) -> None:
    """The same as `main`, by the workers of a cluster; what they said is in `folder`/said.

    Their disk is full when they have all but their last state on it, if told so.
    """
    with (
        report_user_errors(),
        Path(folder, "said").open("a", buffering=1) as file,
        stoppable(Progress(console=Console(file=file, soft_wrap=True))) as screen,
    ):
        work_through(
            Cluster(address=address),
            functools.partial(Worker, Path(folder), num_steps, full),
            lambda _: [[SimpleNamespace(name=name)] for name in names],
            monitor=screen,
            receive=lambda pair: screen.say(f"{pair[0]} ended: {pair[1]}"),
            lost=lambda video, why: screen.say(f"{video.name} lost: {why}"),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
