"""What is on the disk, by the order of the system calls, when a file or folder gets its name.

After a power loss a file system may hold a new name, but not the content that was never flushed; or
the content, but not the name. So content must be flushed first, and then the folder of the name.
"""

import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn_generator

from eg3d_jax import checkpoint
from eg3d_jax.config import tiny
from eg3d_jax.folders import flush, flush_names
from experiments.runs.output_folder import OutputFolder
from inversion.files import save_arrays, write_json
from inversion.fitting import states


class Disk:
    """Records what is flushed, and what lay behind each name that was given.

    Attributes:
      unflushed: for each name that a rename gave, the files behind it that were not on the disk as
        they were then.
    """

    def __init__(self, monkeypatch):
        self.unflushed, self._flushed = {}, {}
        fsync = os.fsync

        def flush(descriptor):
            fsync(descriptor)
            found = os.fstat(descriptor)
            self._flushed[found.st_ino] = found.st_size, found.st_mtime_ns

        def recording(rename):
            def moved(source, target, **options):
                missing = self.missing(Path(source))
                rename(source, target, **options)
                self.unflushed[Path(target).resolve()] = missing

            return moved

        monkeypatch.setattr(os, "fsync", flush)
        monkeypatch.setattr(os, "rename", recording(os.rename))
        monkeypatch.setattr(os, "replace", recording(os.replace))

    def holds(self, path):
        """Whether a file or folder was flushed as it is; of a folder, the names in it."""
        found = path.stat()
        return self._flushed.get(found.st_ino) == (found.st_size, found.st_mtime_ns)

    def missing(self, path):
        """Names of what is not on the disk of a file, or of a folder and all that is in it."""
        return [found.name for found in (path, *path.rglob("*")) if not self.holds(found)]


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_the_recorder_sees_what_is_not_flushed(disk, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("content")
    flush(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert disk.unflushed[tmp_path / "b"] == []
    assert not disk.holds(tmp_path)
    flush_names(tmp_path)
    assert disk.holds(tmp_path)
    (tmp_path / "b" / "file").write_text("other content")
    (tmp_path / "b").rename(tmp_path / "c")
    assert disk.unflushed[tmp_path / "c"] == ["file"]


def test_files(disk, tmp_path):
    for write, content in (write_json, {"a": 1}), (save_arrays, {"a": np.zeros(3)}):
        path = write(tmp_path / "file", content)
        assert disk.unflushed[path] == []
        assert disk.holds(tmp_path)


def test_a_generator_and_the_one_that_replaces_it(disk, tmp_path):
    generator = drawn_generator(tiny())
    for overwrite in (False, True):
        checkpoint.save(tmp_path / "weights", generator, overwrite=overwrite)
        assert disk.unflushed[tmp_path / "weights"] == []
        assert disk.missing(tmp_path / "weights") == []


def test_a_saved_state_is_on_the_disk_before_the_next_save_begins(disk, tmp_path, monkeypatch):
    """So two states are never in danger at once, and orbax keeps two."""
    missing = []
    with states.Saver(tmp_path / "states") as saver:
        save = saver._manager.save

        def looking(step, **options):
            for at in states.steps(tmp_path / "states"):
                missing.extend(disk.missing(tmp_path / "states" / f"{at:08d}"))
            save(step, **options)

        monkeypatch.setattr(saver._manager, "save", looking)
        for step in (1, 2, 3):
            saver.save(step, {"w": jnp.full(3, step)})
    assert missing == []
    assert disk.missing(tmp_path / "states") == []
    assert states.steps(tmp_path / "states") == [2, 3]


def test_the_files_of_a_command(disk, tmp_path):
    output = OutputFolder(tmp_path / "out", "mark.json", ["*.txt"], overwrite=False)
    with output.writing() as folder:
        (folder / "a.txt").write_text("a")
        write_json(folder / "mark.json", {"a": 1})
    assert disk.unflushed[tmp_path / "out" / "a.txt"] == []
    assert disk.unflushed[tmp_path / "out" / "mark.json"] == []


def test_a_state_whose_content_was_lost_is_passed_over(tmp_path):
    """Where the file system keeps the name and not the content, digests tell."""
    for step in (1, 2):
        states.save(tmp_path, step, {"w": jnp.full(3, step)})
    largest = max((tmp_path / f"{2:08d}").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    shutil.copyfile("/dev/null", largest)
    with pytest.warns(UserWarning, match="damaged"):
        found = states.load(tmp_path, {"w": jnp.zeros(3, int)})
    assert found is not None
    assert found.step == 1
