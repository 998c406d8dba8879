"""No known way around a reader of pickles works here: every file is refused, and nothing is run.

The kinds are those of public reports on scanners of pickles: callables by other names, names that
lead on from listed ones, disagreement between reader and machine, files broken off or with more
behind, wrappings, and exhaustion.
"""

import ast
import json
import pickle
import subprocess
import sys
from pathlib import Path

import evasion_cases as cases
import numpy as np
import pytest
from torch_files import MAGIC, legacy_file, pickled, zip_file

ROOT = Path(__file__).parents[2]
SMALL = 24 << 10  # KiB that reading a small file may add to the largest size of the process
NAMES = ("read_pickle", "read_array_pickle", "read_state_dict", "read_tensors")
VALUES = {
    **{f"call {name}": cases.called(name) for name in cases.CALLS},
    **{f"name {m}.{n}": cases.named(m, n) for m, n in cases.DOTTED},
    **cases.OPERATIONS,
}


@pytest.fixture(scope="module")
def goods(writer):
    """For each reader, a file that it reads without complaint."""
    checkpoint = writer.checkpoint_bytes(writer.smallest())
    arrays = pickle.dumps({"a": np.ones(2, np.float32)}, 4)
    return {
        "read_pickle": checkpoint,
        "read_array_pickle": arrays,
        "read_state_dict": legacy_file({"a": np.ones(2, np.float32)}),
        "read_tensors": zip_file({"a": np.ones(2, np.float32)}),
    }


def settings(writer, operations):
    """The operations as values in every place of a file that one of the readers looks into."""
    whole = b"\x80\x04" + operations + b"."
    head = pickled(MAGIC) + pickled(1001) + pickled({"little_endian": True})
    legacy = head + whole + pickled([])
    archive = cases.zipped(whole)
    marker = "<here>"
    good = writer.generator_record(writer.smallest(), attributes={"renderer": {"extra": marker}})
    inside = writer.dumps({"G_ema": good}).replace(writer.emit(marker), operations)
    beside = b"\x80\x04}(" + writer.emit("D") + operations + writer.emit("G_ema")
    beside += writer.emit(writer.generator_record(writer.smallest())) + b"u."
    load = writer.Global("torch.storage", "_load_from_bytes")
    for name in NAMES:
        yield f"alone, {name}", name, whole
    yield "beside the generator", "read_pickle", beside
    yield "an attribute", "read_pickle", inside
    yield (
        "an array's neighbour",
        "read_array_pickle",
        b"\x80\x04}(" + cases.text("a") + operations + b"u.",
    )
    for kind, data in (("a storage", legacy), ("a storage as zip", archive)):
        yield kind, "read_pickle", writer.dumps({"G_ema": writer.Call(load, (data,))})
    for name in ("read_state_dict", "read_tensors"):
        yield f"legacy, {name}", name, legacy
        yield f"zip, {name}", name, archive
        yield (
            f"a value, {name}",
            name,
            cases.zipped(b"\x80\x04}(" + cases.text("a") + operations + b"u."),
        )


def run(folder, goods, tasks):
    """Read the files in a process that is watched; the results by the tasks' names."""
    listed = []
    for index, (_, reader, data) in enumerate(tasks):
        (folder / f"{index}.pkl").write_bytes(data)
        listed.append((reader, str(folder / f"{index}.pkl")))
    warm = []
    for reader, data in goods.items():
        (folder / reader).write_bytes(data)
        warm.append((reader, str(folder / reader)))
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"warm_up": warm * 2, "watched": listed}))
    script = Path(__file__).with_name("read_watched.py")
    done = subprocess.run(
        [sys.executable, script, manifest],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == len(tasks)
    assert not (folder / "canary").exists()
    return {name: result for (name, _, _), result in zip(tasks, results, strict=True)}


def check(results):
    for name, result in results.items():
        assert result["outcome"].startswith("CheckpointError: cannot read "), (name, result)
        assert len(result["outcome"].splitlines()) == 1, name
        assert not result["events"], (name, result["events"])
        assert result["kib"] < SMALL, (name, result)
        assert result["s"] < 10, (name, result)


def test_the_attacks_work_on_plain_pickle(tmp_path, monkeypatch):
    """Otherwise the next tests would show nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "builtins.eval", "subprocess.check_output", "cProfile.run"):
        pickle.loads(b"\x80\x04" + cases.called(name) + b".")
        assert (tmp_path / "canary").exists(), name
        (tmp_path / "canary").unlink()
    pickle.loads(b"\x80\x04" + cases.OPERATIONS["the result popped"] + b".")
    assert (tmp_path / "canary").exists()


def test_there_are_more_cases_than_were_known():
    assert len(VALUES) + len(cases.EXHAUSTION) > 190


@pytest.mark.slow
def test_calls_and_names_are_refused_wherever_they_stand(tmp_path, writer, goods):
    tasks = [
        (f"{case}: {place}", reader, data)
        for case, operations in VALUES.items()
        for place, reader, data in settings(writer, operations)
    ]
    assert len(tasks) == 15 * len(VALUES)
    check(run(tmp_path, goods, tasks))


def test_files_with_more_or_less_than_a_pickle_and_wrapped_ones_are_refused(tmp_path, goods):
    kinds = cases.files(goods["read_pickle"], goods["read_array_pickle"], goods["read_state_dict"])
    tasks = [(f"{c}: {name}", name, data) for c, data in kinds.items() for name in NAMES]
    results = run(tmp_path, goods, tasks)
    for name, result in results.items():
        if name.startswith("a gzip bomb"):  # as much as the reader allows, twice for a moment
            assert "unpacks to more than" in result["outcome"]
            result["kib"] = max(result["kib"] - (48 << 10), 0)
    check(results)


@pytest.mark.parametrize("reader", NAMES)
def test_files_that_would_exhaust_memory_or_time_are_refused(tmp_path, goods, reader):
    tasks = [(case, reader, data) for case, data in cases.EXHAUSTION.items()]
    head = pickled(MAGIC) + pickled(1001) + pickled({"little_endian": True})
    if reader in NAMES[2:]:
        tasks += [(f"legacy, {case}", reader, head + data) for case, _, data in tasks]
        tasks += [(f"zip, {c}", reader, cases.zipped(d)) for c, d in cases.EXHAUSTION.items()]
    check(run(tmp_path, goods, tasks))


def test_the_watch_sees_what_a_reader_would_do(tmp_path, goods):
    """Reading a file that is there opens only that; the hook of the child does note others."""
    tasks = [(name, name, data) for name, data in goods.items()]
    results = run(tmp_path, goods, tasks)
    assert all(r["outcome"] == "read" and not r["events"] for r in results.values()), results
    code = (
        "import sys; sys.argv = ['x']; sys.path.insert(0, sys.argv[0]);"
        "import read_watched as w; sys.addaudithook(w.note);"
        "w.READERS['f'] = lambda path, max_bytes: __import__('os').system('true');"
        "print(w.watched('f', 'x')['events'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "os.system" in done.stdout


def test_no_reader_can_fall_back_to_an_unsafe_one():
    """The packages that read do not import what could execute, nor call it by a name."""
    forbidden = {"pickle", "_pickle", "marshal", "shelve", "dill", "joblib", "torch", "importlib"}
    files = sorted((ROOT / "convert_weights").rglob("*.py"))
    assert len(files) > 10
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names} | {getattr(node, "module", None) or ""}
                assert not {name.split(".")[0] for name in names} & forbidden, path.name
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), path.name
