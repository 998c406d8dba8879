"""States come back bit by bit, whole or not at all."""

import errno
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eg3d_jax.errors import DiskFullError, InputError
from inversion.files import fingerprint
from inversion.fitting import states


def _tree(value):
    params = {"kernel": jnp.full((3, 4), value, jnp.float32), "bias": jnp.arange(5.0) / 3 * value}
    return {
        "params": params,
        "adam": optax.scale_by_adam().init(params),
        "key": jax.random.fold_in(jax.random.key(7), int(value)),
        "half": jnp.full((2,), value, jnp.bfloat16),
        "step": jnp.int32(value),
    }


def _assert_same_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_state_comes_back_bit_by_bit(tmp_path):
    tree = _tree(3)
    tree["params"]["bias"] = jnp.array([np.nan, -0.0, np.inf, 1e-42, 0.1])
    states.save(tmp_path, 3, tree, {"stage": "latent"})
    found = states.load(tmp_path, jax.eval_shape(lambda: tree))
    assert found is not None
    assert (found.step, found.note) == (3, {"stage": "latent"})
    _assert_same_bits(found.tree, tree)


def test_the_last_two_states_are_kept_and_the_newest_is_loaded(tmp_path):
    for step in (5, 9, 10, 100):
        states.save(tmp_path, step, {"x": jnp.float32(step)})
    assert states.steps(tmp_path) == [10, 100]
    found = states.load(tmp_path, {"x": jnp.float32(0)})
    assert found is not None
    assert found.tree["x"] == 100


def test_what_becomes_of_arrays_and_note_after_a_save_is_not_in_it(tmp_path):
    """They are written while the caller goes on."""
    for step in range(5):
        x, recent = np.full(1_000_000, step, np.float32), [step]
        with states.Saver(tmp_path) as saver:
            saver.save(step, {"x": x}, {"recent": recent})
            x += 1
            recent.append(-1)
        found = states.load(tmp_path, {"x": x})
        assert found is not None
        assert found.note == {"recent": [step]}
        assert np.all(found.tree["x"] == step)


def test_saving_again_under_the_same_step_replaces(tmp_path):
    states.save(tmp_path, 1, {"x": jnp.float32(1)})
    states.save(tmp_path, 1, {"x": jnp.float32(2)})
    found = states.load(tmp_path, {"x": jnp.float32(0)})
    assert found is not None
    assert found.tree["x"] == 2


def test_an_empty_folder_holds_no_state(tmp_path):
    assert states.load(tmp_path, {}) is None
    assert states.load(tmp_path / "nowhere", {}) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "manifest", "folder"])
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path, monkeypatch, damage):
    """Unread: tensorstore's threads print tracebacks over damaged files."""
    for step in (1, 2):
        states.save(tmp_path, step, _tree(step))
    newest = tmp_path / "00000002"
    files = [path for path in (newest / "arrays").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    if damage == "cut":
        largest.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 255
        largest.write_bytes(data)
    elif damage == "remove":
        for path in files:
            path.unlink()
    elif damage == "manifest":
        (newest / "manifest" / "metadata").write_text("{")
    else:  # a save that never ended
        newest.rename(tmp_path / "00000002.orbax-checkpoint-tmp-0")
    read, handler = [], states.ocp.PyTreeCheckpointHandler
    restore = handler.restore

    def told(self, directory, *args, **kwargs):
        read.append(directory.parent.name)
        return restore(self, directory, *args, **kwargs)

    monkeypatch.setattr(handler, "restore", told)
    if damage == "folder":
        found = states.load(tmp_path, _tree(0))
    else:
        with pytest.warns(UserWarning, match="00000002 is damaged"):
            found = states.load(tmp_path, _tree(0))
    assert found is not None
    assert found.step == 1
    assert read == ["00000001"]
    _assert_same_bits(found.tree, _tree(1))


def test_a_changed_number_is_noticed(tmp_path):
    """Even where the storage format itself would not: the manifest has a digest of every leaf."""
    states.save(tmp_path, 1, {"x": jnp.zeros(3)})
    manifest = tmp_path / "00000001" / "manifest" / "metadata"
    other = fingerprint({"x": jnp.ones(3)})
    content = json.loads(manifest.read_text())
    content["leaves"][0]["sha256"] = other
    manifest.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="has changed"):
        assert states.load(tmp_path, {"x": jnp.zeros(3)}) is None


def test_a_state_of_another_generator_is_refused(tmp_path):
    states.save(tmp_path, 1, {"x": jnp.zeros(3)})
    with pytest.raises(InputError, match=r"has shape \[3\], but this run needs \[4\]"):
        states.load(tmp_path, {"x": jnp.zeros(4)})
    with pytest.raises(InputError, match="first difference: \\['y'\\]"):
        states.load(tmp_path, {"x": jnp.zeros(3), "y": jnp.zeros(3)})


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch, late):
    """Whether it shows at once or while the state is written behind the run's back."""
    states.save(tmp_path, 1, {"x": jnp.float32(1)})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    handler = states.ocp.PyTreeCheckpointHandler
    monkeypatch.setattr(handler, "finalize" if late else "async_save", full)
    with pytest.raises(DiskFullError, match=r"the state of step 1 is there"):
        states.save(tmp_path, 2, {"x": jnp.float32(2)})
    assert states.steps(tmp_path) == [1]
    monkeypatch.undo()
    states.save(tmp_path, 2, {"x": jnp.float32(2)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000002"]


@pytest.mark.usefixtures("no_thread_stays")
def test_a_save_that_fails_at_once_leaves_no_thread_behind(tmp_path, monkeypatch):
    """It would wait for minutes for signals that nobody sends, also when the process ends."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(states.ocp.PyTreeCheckpointHandler, "async_save", full)
    with pytest.raises(DiskFullError):
        states.save(tmp_path, 1, {"x": jnp.float32(1)})


def test_what_a_save_behind_the_runs_back_raises_is_told_once(tmp_path, monkeypatch, capfd, caplog):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(states.ocp.PyTreeCheckpointHandler, "finalize", full)
    with states.Saver(tmp_path) as saver:
        saver.save(1, {"x": jnp.float32(1)})
        while saver._manager.is_saving_in_progress():  # meanwhile the run goes on
            time.sleep(0.01)
        with pytest.raises(DiskFullError):
            saver.wait()
    assert not capfd.readouterr().err
    assert not caplog.records


def test_what_is_saved_is_the_tree_at_that_moment(tmp_path):
    """Not what its donated buffers hold while it is written."""
    forward = jax.jit(lambda tree: {"x": tree["x"] + 1}, donate_argnums=0)
    tree = {"x": jnp.zeros(2_000_000)}
    with states.Saver(tmp_path) as saver:
        for step in range(4):
            saver.save(step, tree)
            tree = forward(tree)
    found = states.load(tmp_path, {"x": jnp.zeros(2_000_000)})
    assert found is not None
    assert (np.asarray(found.tree["x"]) == 3).all()


def test_a_fingerprint_tells_trees_apart():
    tree = {"x": np.zeros(3, np.float32)}
    assert fingerprint(tree) == fingerprint({"x": jnp.zeros(3)})
    for other in ({"y": tree["x"]}, {"x": np.zeros(4, np.float32)}, {"x": np.zeros(3, np.int32)}):
        assert fingerprint(other) != fingerprint(tree)
