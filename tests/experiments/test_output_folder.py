"""A command's files appear together or not at all, and an earlier call's stay until then."""

import json

import pytest

from eg3d_jax.errors import InputError
from experiments.runs import output_folder
from experiments.runs.folder import RunLock
from experiments.runs.output_folder import OutputFolder, replacing

MARK, OTHERS = "mark.json", ("*.txt", "folder")


def write(folder, content, names=("a.txt", "folder/b", MARK), **keywords):
    keywords = {"overwrite": True} | keywords
    with OutputFolder(folder, MARK, OTHERS, **keywords).writing() as staging:
        for name in names:
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text(json.dumps(content))


def end_after(path, error):
    path.write_text("2")
    raise error


def found(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in files}


def test_files_of_an_earlier_call_are_replaced_and_others_stay(tmp_path):
    folder = tmp_path / "new" / "out"
    write(folder, 1, overwrite=False)
    (folder / "notes").write_text("0")
    write(folder, 2, names=("c.txt", MARK))
    assert found(folder) == {"notes": 0, "c.txt": 2, MARK: 2}
    with pytest.raises(InputError, match="holds c.txt already; replace it with --overwrite"):
        OutputFolder(folder, MARK, OTHERS, overwrite=False)
    (folder / MARK).unlink()
    with pytest.raises(InputError, match="not made by this command"):
        OutputFolder(folder, MARK, OTHERS, overwrite=True)


@pytest.mark.parametrize("error", [InputError, OSError, KeyboardInterrupt])
def test_an_end_in_the_midst_leaves_the_earlier_files_or_nothing(tmp_path, error):
    write(tmp_path / "earlier", 1)
    for name in ("earlier", "new/folder"):
        output = OutputFolder(tmp_path / name, MARK, OTHERS, overwrite=True)
        with pytest.raises(error), output.writing() as staging:
            end_after(staging / "a.txt", error)
    assert [path.name for path in tmp_path.iterdir()] == ["earlier"]
    assert found(tmp_path / "earlier") == {"a.txt": 1, "folder/b": 1, MARK: 1}


def test_a_kill_while_files_are_moved_leaves_a_folder_that_may_be_replaced(tmp_path, monkeypatch):
    write(tmp_path, 1)

    class Killed(BaseException):
        pass

    def kill(path):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(output_folder, "_remove", kill)
        with pytest.raises(Killed):
            write(tmp_path, 2)
    assert json.loads((tmp_path / MARK).read_text()) == {}
    (tmp_path / ".unfinished").mkdir()  # as a kill leaves it
    (tmp_path / ".unfinished" / "left.txt").write_text("2")
    write(tmp_path, 3, overwrite=False)
    assert found(tmp_path) == {"a.txt": 3, "folder/b": 3, MARK: 3}


def test_two_processes_do_not_write_at_once(tmp_path):
    with RunLock(tmp_path / ".unfinished.lock"), pytest.raises(InputError, match="in use by"):
        write(tmp_path, 1)
    write(tmp_path, 2)


def test_files_without_a_mark_appear_together(tmp_path):
    (tmp_path / "a").write_text("1")
    with pytest.raises(InputError), replacing(tmp_path) as staging:
        end_after(staging / "a", InputError)
    assert found(tmp_path) == {"a": 1}
    with replacing(tmp_path) as staging:
        (staging / "a").write_text("3")
    assert found(tmp_path) == {"a": 3}


def test_where_nothing_can_be_written_is_known_at_the_start(tmp_path):
    (tmp_path / "file").write_text("1")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="is a file"):
            OutputFolder(path, MARK, OTHERS, overwrite=True)


def test_a_folder_that_is_read_only_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(InputError, match=r"read-only.*another --output"):
        OutputFolder(tmp_path / "new", MARK, OTHERS, overwrite=True)
