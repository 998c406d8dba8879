"""A run folder is never written by two, never mixed with other files, never resumed as another."""

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.errors import InputError
from experiments.runs.folder import RunFolder, RunLock
from experiments.runs.settings import OtherSettings, check_same
from inversion.fitting import states
from inversion.fitting.states import StateFolder, save


@dataclasses.dataclass(frozen=True)
class _Stage:
    steps: int = 5
    rate: float = 0.1


_SETTINGS = {"frames": Path("demo"), "stage": _Stage(), "sides": (8, 16)}


def test_a_new_run_notes_its_settings_and_versions(tmp_path):
    with RunFolder.create(tmp_path / "a" / "b", _SETTINGS) as run:
        config = json.loads((run.path / "config.json").read_text())
        assert run.pictures.is_dir()
    assert config["settings"]["stage"] == {"steps": 5, "rate": 0.1}
    assert config["settings"]["sides"] == [8, 16]
    assert config["versions"]["jax"]
    assert not (run.path / "run.lock").exists()


def test_a_run_goes_on_with_the_same_settings_only(tmp_path):
    RunFolder.create(tmp_path, _SETTINGS).close()
    with RunFolder.resume(tmp_path, _SETTINGS) as run:
        states.save(run.states, 3, {"x": jnp.zeros(2)})
    with RunFolder.resume(tmp_path, _SETTINGS) as run:
        state = states.load(run.states, {"x": jnp.zeros(2)})
        assert state is not None
        assert state.step == 3
    with pytest.raises(InputError, match=r"stage\.rate was 0\.1, is 0\.2; resume with the same"):
        RunFolder.resume(tmp_path, _SETTINGS | {"stage": _Stage(rate=0.2)})
    with pytest.raises(InputError, match=r"seed was \(none\), is 3"):
        RunFolder.resume(tmp_path, _SETTINGS | {"seed": 3})
    RunFolder.resume(tmp_path, _SETTINGS).close()  # a refusal leaves no lock


def test_resuming_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run to resume"):
        RunFolder.resume(tmp_path / "new", _SETTINGS)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not of a run of this program"):
        RunFolder.resume(tmp_path, _SETTINGS)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        RunFolder.resume(tmp_path, _SETTINGS)


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds holiday.jpg"):
            RunFolder.create(tmp_path, _SETTINGS, overwrite=overwrite)
    assert (tmp_path / "holiday.jpg").exists()


def test_an_earlier_run_is_kept_unless_told_otherwise(tmp_path):
    with RunFolder.create(tmp_path, _SETTINGS) as run:
        states.save(run.states, 1, {"x": jnp.zeros(2)})
    later = ("render", "mesh", "splat", "edit", "evaluation", "view")  # what other commands leave
    for name in later:
        (tmp_path / name / "orbit").mkdir(parents=True)
    (tmp_path / "head.html").write_text("")
    with pytest.raises(InputError, match="holds a run already; continue it with --resume"):
        RunFolder.create(tmp_path, _SETTINGS)
    with RunFolder.create(tmp_path, _SETTINGS, overwrite=True) as run:
        assert states.load(run.states, {"x": jnp.zeros(2)}) is None
        assert not any((tmp_path / name).exists() for name in (*later, "head.html"))


def test_what_holds_other_files_is_not_cleared(tmp_path):
    RunFolder.create(tmp_path, _SETTINGS).close()
    (tmp_path / "result" / "latents.npz").write_text("")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="holds notes.txt"):
        RunFolder.create(tmp_path, _SETTINGS, overwrite=True)
    assert (tmp_path / "result" / "latents.npz").exists()
    (tmp_path / "notes.txt").rename(tmp_path / ".metrics.json.123")  # a killed write of ours
    (tmp_path / ".DS_Store").write_text("")
    RunFolder.create(tmp_path, _SETTINGS, overwrite=True).close()
    assert not (tmp_path / "result" / "latents.npz").exists()


def test_a_folder_that_is_taken_is_changed_only_when_the_run_begins(tmp_path):
    RunFolder.create(tmp_path, _SETTINGS).close()
    (tmp_path / "log.csv").write_text("old")
    with RunFolder.lock(tmp_path, overwrite=True) as run:
        assert (tmp_path / "log.csv").read_text() == "old"
        run.begin(_SETTINGS)
        assert not (tmp_path / "log.csv").exists()


def test_what_is_done_at_once_may_change_and_what_was_not_noted_is_taken_as_it_is(tmp_path):
    then = {"inversion": {"rays_at_once": None, "update": "joint"}, "frame_labels": "x"}
    now = {"inversion": {"rays_at_once": 64, "update": "joint"}, "frame_labels": "x"}
    check_same(tmp_path, then, now | {"frame_pictures": "a"})
    with pytest.raises(OtherSettings, match="frame_pictures was a, is b"):
        check_same(tmp_path, then | {"frame_pictures": "a"}, now | {"frame_pictures": "b"})


def test_older_runs_looked_at_the_background(tmp_path):
    """They go on without the option, which they did not note, and not with it."""
    then = {"inversion": {"update": "joint"}}
    now = {"inversion": {"update": "joint", "mask_background": False}}
    check_same(tmp_path, then, now)
    other = {"inversion": now["inversion"] | {"mask_background": True}}
    for started in (then, now):
        with pytest.raises(OtherSettings, match="mask_background was False, is True"):
            check_same(tmp_path, started, other)


def test_older_runs_started_from_the_mean_latent(tmp_path):
    """They go on without the option, which they did not note, and not with it."""
    check_same(tmp_path, {"views": 3}, {"views": 3, "start_from": None})
    with pytest.raises(OtherSettings, match="start_from was None, is abc"):
        check_same(tmp_path, {"views": 3}, {"views": 3, "start_from": "abc"})


def test_an_overwriting_that_was_killed_anywhere_can_be_repeated(tmp_path, monkeypatch):
    """Files go one after another; whichever was the last to go, the next call clears the rest."""
    files = ("log.csv", "metrics.json", "turntable.mp4", "report.html")
    for survived in range(len(files) + 1):
        RunFolder.create(tmp_path / str(survived), _SETTINGS).close()
        for name in files:
            (tmp_path / str(survived) / name).write_text("old")
        unlink, removed = Path.unlink, []

        def dying(path, missing_ok=False, unlink=unlink, removed=removed, survived=survived):
            if path.name != "run.lock":
                if len(removed) == survived:
                    raise KeyboardInterrupt
                removed.append(path.name)
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", dying)
            with pytest.raises(KeyboardInterrupt):
                RunFolder.create(tmp_path / str(survived), _SETTINGS, overwrite=True)
        with RunFolder.create(tmp_path / str(survived), _SETTINGS, overwrite=True) as run:
            assert not any((run.path / name).exists() for name in files)


def test_a_run_takes_over_stages_that_another_has_finished(tmp_path):
    one, other = (RunFolder.create(tmp_path / name, {}) for name in ("one", "other"))
    for stage in ("3 views, latent", "of no interest"):
        save(StateFolder(one.states).path(stage), 7, {"w": np.arange(3.0)}, {"stopped": None})
    (one.path / "log.csv").write_text("stage,step\n")
    other.adopt(one.path, ("3 views, latent", "3 views, tuning"))  # of which there is none
    states = StateFolder(other.states)
    found = states.load("3 views, latent", {"w": np.zeros(3)})
    assert found.step == 7
    np.testing.assert_array_equal(found.tree["w"], np.arange(3.0))
    assert [path.name for path in other.states.iterdir()] == ["3-views-latent"]
    assert (other.path / "log.csv").read_text() == "stage,step\n"


def test_a_folder_in_use_is_refused_with_its_user(tmp_path):
    with (
        RunFolder.create(tmp_path, _SETTINGS),
        pytest.raises(InputError, match=f"in use by process {os.getpid()} on "),
    ):
        RunFolder.resume(tmp_path, _SETTINGS)
    RunFolder.resume(tmp_path, _SETTINGS).close()


def test_the_lock_of_a_killed_process_does_not_hold(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from experiments.runs.folder import RunLock;"
        "RunLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "run.lock"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match=f"in use by process {process.pid}"):
            RunLock(path).acquire()
        process.kill()
    assert path.exists()
    lock = RunLock(path)
    lock.acquire()
    lock.release()
    assert not path.exists()


def _take(path, barrier, held, together):
    lock = RunLock(path)
    for _ in range(50):
        barrier.wait(20)
        try:
            lock.acquire()
        except InputError:
            barrier.wait(20)
            continue
        with held.get_lock():
            held.value += 1
            together.value = max(together.value, held.value)
        barrier.wait(20)
        with held.get_lock():
            held.value -= 1
        lock.release()


def test_two_processes_never_hold_one_lock(tmp_path):
    context = multiprocessing.get_context("spawn")
    shared = context.Barrier(2), context.Value("i", 0), context.Value("i", 0)
    arguments = (tmp_path / "run.lock", *shared)
    processes = [context.Process(target=_take, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert shared[2].value == 1


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        RunFolder.create(tmp_path / "file" / "run", _SETTINGS)


def test_too_little_space_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has \d+ MB free, but the run needs 1000000000000 MB"):
        RunFolder.create(tmp_path / "run", _SETTINGS, needed_bytes=10**18)


def test_json_changes_whole_or_not_at_all(tmp_path, monkeypatch):
    with RunFolder.create(tmp_path, _SETTINGS) as run:
        run.write_json("metrics.json", {"psnr": np.float32(2.5), "all": jnp.arange(2), "x": np.inf})
        content = {"psnr": 2.5, "all": [0, 1], "x": None}
        assert json.loads((tmp_path / "metrics.json").read_text()) == content

        def fail(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            run.write_json("metrics.json", {"psnr": 0})
        assert json.loads((tmp_path / "metrics.json").read_text()) == content
        assert not list(tmp_path.glob(".metrics*"))
