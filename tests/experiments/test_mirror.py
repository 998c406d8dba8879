"""A run's copy in an object store is the folder as it was when something in it was complete."""

import itertools
from pathlib import Path

import object_store
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eg3d_jax.errors import InputError, report_user_errors
from experiments.runs.mirror import Mirror, StoreError, url_of

fsspec = pytest.importorskip("fsspec", reason="stores are fsspec's, of the extra cluster")
NUMBERS = itertools.count()
FILES = st.dictionaries(
    st.sampled_from(["log.csv", "config.json", "state/a/00000001/x", "state/a/00000002/x", "r/p"]),
    st.binary(max_size=9),
)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold these files and no other."""
    for name in contents(folder).keys() - files.keys():
        (folder / name).unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).is_file() or (folder / name).read_bytes() != content:
            (folder / name).unlink(missing_ok=True)  # so that its time differs
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("kind", ["memory", "file"])
@given(versions=st.lists(FILES, min_size=1, max_size=4))
def test_what_is_fetched_is_what_was_pushed_last(tmp_path_factory, kind, versions):
    folder = tmp_path_factory.mktemp("here")
    place = "runs" if kind == "memory" else tmp_path_factory.mktemp("disk") / "new"
    url = f"{kind}://{place}/{next(NUMBERS)}"
    mirror = Mirror(folder, url)
    for files in versions:
        write(folder, files)
        mirror.push()
    other = tmp_path_factory.mktemp("there")
    again = Mirror(other, url)
    again.fetch()
    assert contents(other) == versions[-1]
    # And whoever fetched it goes on from there.
    write(other, {"config.json": b"new"})
    again.push()
    third = tmp_path_factory.mktemp("third")
    Mirror(third, url).fetch()
    assert contents(third) == {"config.json": b"new"}


def test_what_was_there_and_is_not_here_is_removed_at_the_first_push(tmp_path):
    write(tmp_path / "old", {"a": b"1", "b/c": b"2"})
    Mirror(tmp_path / "old", "memory://removed").push()
    write(tmp_path / "new", {"b/c": b"3"})
    Mirror(tmp_path / "new", "memory://removed", r"[^/]+").push()  # of the top alone
    Mirror(tmp_path / "found", "memory://removed").fetch()
    assert contents(tmp_path / "found") == {"b/c": b"2"}


def test_locks_and_unfinished_files_stay_here(tmp_path):
    kept = {"config.json": b"1", "state/a/00000001/x": b"2", ".outcomes/a.json": b"3"}
    passing = dict.fromkeys(
        ("run.lock", ".config.json.123", "state/a/.room.9", "state/a/2.orbax-checkpoint-tmp-3/x"),
        b"",
    )
    write(tmp_path / "run", kept | passing)
    Mirror(tmp_path / "run", "memory://passing").push()
    Mirror(tmp_path / "found", "memory://passing").fetch()
    assert contents(tmp_path / "found") == kept


def test_losses_are_there_before_the_states_that_follow_them(tmp_path, monkeypatch):
    """Whoever is killed in between repeats steps, and has none without a row."""
    mirror, order = Mirror(tmp_path / "run", "memory://order"), []
    write(tmp_path / "run", {"a": b"1", "log.csv": b"2", "state/a/00000001/x": b"3"})
    put = mirror._files.put_file
    monkeypatch.setattr(
        type(mirror._files),
        "put_file",
        lambda _, here, there: (order.append(Path(there).name), put(here, there)),
    )
    mirror.push()
    assert order == ["log.csv", "a", "x"]


def test_a_store_that_refuses_is_an_error_status(tmp_path, monkeypatch, capsys):
    mirror = Mirror(tmp_path / "run", "memory://refused")
    write(tmp_path / "run", {"a": b"1"})
    mirror.push()

    def refuse(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(mirror._files), "put_file", refuse)
    write(tmp_path / "run", {"a": b"2"})
    with pytest.raises(SystemExit) as ended, report_user_errors():
        mirror.push()
    assert ended.value.code == 2
    assert "memory://refused cannot be written (Access Denied)" in capsys.readouterr().err
    Mirror(tmp_path / "found", "memory://refused").fetch()
    assert contents(tmp_path / "found") == {"a": b"1"}
    monkeypatch.setattr(type(mirror._files), "find", refuse)
    with pytest.raises(StoreError, match=r"cannot be read \(Access Denied\)"):
        Mirror(tmp_path / "found", "memory://refused")


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (Path("s3://bucket/runs/all"), "s3://bucket/runs/all"),
        (Path("memory://x"), "memory://x"),
        (Path("file:///runs/all"), "file:///runs/all"),
        (Path("runs/all"), None),
        (Path("/runs/all"), None),
        (Path("C:/runs"), None),
    ],
)
def test_urls_are_told_from_paths(path, url):
    assert url_of(path) == url


def test_a_kind_of_store_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(InputError, match="--run nonsense://a/b: Protocol not known"):
        Mirror(tmp_path, "nonsense://a/b")


@pytest.mark.filterwarnings("default")  # of moto's
@pytest.mark.skipif(not object_store.installed(), reason=object_store.WANTED)
def test_a_bucket_holds_a_run(tmp_path):
    with object_store.bucket() as bucket:
        write(tmp_path / "run", {"config.json": b"1", "state/a/00000001/x": b"2"})
        mirror = Mirror(tmp_path / "run", f"{bucket}/runs/all")
        mirror.push()
        write(tmp_path / "run", {"config.json": b"3", "state/a/00000002/x": b"4"})
        mirror.push()
        Mirror(tmp_path / "found", f"{bucket}/runs/all").fetch()
        assert contents(tmp_path / "found") == contents(tmp_path / "run")
        with pytest.raises(StoreError, match="s3://no-such-bucket/all cannot be read"):
            Mirror(tmp_path / "run", "s3://no-such-bucket/all")
