"""Save and load the state of an interrupted run, bit by bit, whatever tree holds it."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from eg3d_jax.checkpoint import digests
from eg3d_jax.errors import DiskFullError, InputError, is_disk_full
from eg3d_jax.folders import check_room, flush, flush_names
from inversion.files import description, entries

_DIGESTS = "digests.json"


class DigestedArrays(ocp.PyTreeCheckpointHandler):
    """Orbax handler that writes the digests of all files before the state appears."""

    def finalize(self, directory: Any) -> None:
        """Write the digests; called by orbax with the folder of the arrays."""
        super().finalize(directory)
        folder = Path(directory)
        (folder / _DIGESTS).write_text(json.dumps(digests(folder)))


@ocp.args.register_with_handler(DigestedArrays, for_save=True, for_restore=True)
class SaveArrays(ocp.args.PyTreeSave):
    """Arguments by which orbax chooses `DigestedArrays`."""


def are_whole(folder: Path) -> bool:
    """Whether the files still have the digests that `DigestedArrays` wrote."""
    saved = json.loads((folder / _DIGESTS).read_text())
    return saved.items() <= digests(folder).items()


_MANIFEST, _ARRAYS = "manifest", "arrays"


def _without_traceback(record: logging.LogRecord) -> bool:
    """Filter of orbax's log, whose threads print what they also raise."""
    return not record.exc_info


class DamagedState(Exception):
    """A saved state whose files are incomplete or changed."""


@dataclass(frozen=True)
class SavedState:
    """A state as `load` returns it.

    Attributes:
      step: under which it was saved.
      note: what was saved beside the arrays.
      tree: the arrays, as the abstract tree asked.
    """

    step: int
    note: dict[str, Any]
    tree: Any


class Saver:
    """Saves states of a run into one folder in the background; closed by `with`.

    A state appears as `folder`/STEP complete, or not at all, whenever the process dies. Once the
    next save begins it outlives a power loss, too. All but the last two are removed.
    """

    def __init__(self, folder: Path, kept: Callable[[], None] = lambda: None):
        """Make the folder.

        Args:
          folder: of the states.
          kept: called whenever another state is complete and on the disk.
        """
        self.folder, self._kept = folder.absolute(), kept
        self._flushed: set[int] = set()
        logging.getLogger("absl").addFilter(_without_traceback)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2,
                step_format_fixed_length=8,
                create=False,
                cleanup_tmp_directories=True,
                save_root_metadata=False,
                # Closed in the background, they would wait for minutes for a save that has failed.
                async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            ),
            item_handlers={
                _ARRAYS: DigestedArrays(),
                _MANIFEST: ocp.JsonCheckpointHandler(),
            },
        )

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: object, *_) -> None:
        with _quiet():
            try:
                self.wait()
            except DiskFullError:
                if kind is None:  # otherwise another error is being raised
                    raise
            finally:
                self._manager.close()
                logging.getLogger("absl").removeFilter(_without_traceback)

    def save(self, step: int, tree: Any, note: dict[str, Any] | None = None) -> None:
        """Save a tree of arrays in the background; it and the note are copied first.

        Args:
          step: non-negative; a state already saved under it is replaced.
          tree: any pytree of arrays, numbers and random keys.
          note: JSON values kept beside, e.g. the stage.

        Raises:
          DiskFullError: if the disk filled up, in this save or the one before; earlier states are
            left as they were.
        """
        self.wait()
        leaves = entries(tree)
        # Copies: JAX's own buffers are given to the next step.
        arrays = {_leaf_name(i): np.array(array) for i, (_, _, array) in enumerate(leaves)}
        described = [description(*leaf) for leaf in leaves]
        manifest = {"step": step, "note": copy.deepcopy(note or {}), "leaves": described}
        args = ocp.args.Composite(
            **{_ARRAYS: SaveArrays(arrays), _MANIFEST: ocp.args.JsonSave(manifest)}
        )
        with _quiet(), self._explained():
            check_room(self.folder, arrays.values())
            if step in self._manager.all_steps():
                self._manager.delete(step)
            self._flushed.discard(step)
            self._manager.save(step, args=args, force=True)

    def wait(self) -> None:
        """Wait until the last save is complete and on the disk.

        Raises:
          DiskFullError: see `save`.
        """
        with _quiet(), self._explained():
            self._manager.wait_until_finished()
            # orbax renames what it has written without waiting for the disk; should the power fail
            # before this, the digests tell, and the state before is there, flushed.
            new = set(steps(self.folder)) - self._flushed
            for step in new:
                flush(self.folder / f"{step:08d}")
                self._flushed.add(step)
            flush_names(self.folder)
        if new:
            self._kept()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_disk_full(error):
                raise
            kept = steps(self.folder)
            intact = f"the state of step {kept[-1]}" if kept else "no earlier state"
            raise DiskFullError(
                f"the disk is full: a state was not saved below {self.folder} ({intact} is there); "
                "free some space to go on from there"
            ) from error


class Store:
    """Store of the states of one inversion, stage by stage; this one keeps none."""

    save_steps = 50  # from one saved state to the next

    def newest_step(self, stage: str) -> int | None:
        """Step of the newest state of a stage, damaged or not; None if there is none."""
        del stage
        return None

    def load(self, stage: str, like: Any) -> SavedState | None:
        """Load the newest undamaged state of a stage; see `load`.

        Args:
          stage: its name.
          like: a tree of the same structure whose leaves have shape and dtype.
        """
        del stage, like
        return None

    def saver(self, stage: str) -> AbstractContextManager[Saver | None]:
        """Make the saver of a stage's states; None if none are kept."""
        del stage
        return nullcontext()


class StateFolder(Store):
    """Store that keeps the last two states of each stage in a folder."""

    def __init__(
        self, folder: Path | str, save_steps: int = 50, kept: Callable[[], None] = lambda: None
    ):
        """Keep states every `save_steps`, and call `kept` whenever another one is on the disk."""
        self.folder, self.save_steps, self._kept = Path(folder), save_steps, kept

    def path(self, stage: str) -> Path:
        """Folder of the states of a stage."""
        return self.folder / stage.replace(", ", "-").replace(" ", "-")

    def newest_step(self, stage: str) -> int | None:  # noqa: D102
        return (steps(self.path(stage)) or [None])[-1]

    def adopt(self, other: StateFolder, stages: Iterable[str]) -> None:
        """Copy another folder's states of some stages, to go on from them as from one's own.

        Nothing is compared: it is for stages that would end alike here, bit by bit, of the same
        views and key with the same settings. A copy that is cut off is passed over as damaged.

        Args:
          other: whose states are copied; where it has none of a stage, nothing is.
          stages: their names.
        """
        for stage in stages:
            if other.newest_step(stage) is not None:
                shutil.copytree(other.path(stage), self.path(stage), dirs_exist_ok=True)

    def load(self, stage: str, like: Any) -> SavedState | None:  # noqa: D102
        return load(self.path(stage), like)

    def saver(self, stage: str) -> Saver:  # noqa: D102
        return Saver(self.path(stage), self._kept)


def save(folder: Path, step: int, tree: Any, note: dict[str, Any] | None = None) -> None:
    """Save one state and wait until it is complete; see `Saver`."""
    with Saver(folder) as saver:
        saver.save(step, tree, note)


def steps(folder: Path) -> list[int]:
    """Steps of the complete states in a folder, ascending."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.name.isdigit())
    return sorted(int(path.name) for path in found if (path / _MANIFEST).is_dir())


def load(folder: Path, abstract: Any) -> SavedState | None:
    """Load the newest undamaged state of a folder; skip damaged ones with a warning.

    Args:
      folder: of all states of a run.
      abstract: a tree of the same structure whose leaves have shape and dtype.

    Returns:
      The state, its leaves jax arrays equal to the saved ones bit by bit; None if there is none.

    Raises:
      InputError: if the state is whole but of another structure or shape.
    """
    folder = folder.absolute()
    for step in reversed(steps(folder)):
        path = folder / f"{step:08d}"
        try:
            manifest, arrays = _read(path)
        except DamagedState as error:
            warnings.warn(
                f"{path} is damaged ({error}) and passed over; trying the state before",
                stacklevel=2,
            )
            continue
        return SavedState(step, manifest["note"], _rebuilt(path, abstract, manifest, arrays))
    return None


def _read(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    try:
        # Over damaged files tensorstore's threads would print tracebacks without end.
        if not are_whole(path / _ARRAYS):
            raise DamagedState(f"files in {_ARRAYS} are missing or have changed")
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        with _quiet():
            with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
                manifest = checkpointer.restore(path / _MANIFEST)
            leaves = manifest["leaves"]
            wanted = {_leaf_name(i): as_numpy for i in range(len(leaves))}
            args = ocp.args.PyTreeRestore(restore_args=wanted)
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                restored = checkpointer.restore(path / _ARRAYS, args=args)
        arrays = [restored[_leaf_name(i)] for i in range(len(leaves))]
        for leaf, array in zip(leaves, arrays, strict=True):
            if leaf != description(leaf["name"], leaf["key"], array):
                raise DamagedState(f"{leaf['name']} has changed since it was saved")
    except DamagedState:
        raise
    # Orbax and tensorstore answer damage with many kinds of error; all mean the same here.
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DamagedState(reason) from error
    return manifest, arrays


def _rebuilt(path: Path, abstract: Any, manifest: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    wanted, structure = jax.tree_util.tree_flatten_with_path(abstract)
    names = [jax.tree_util.keystr(key) for key, _ in wanted]
    saved = [leaf["name"] for leaf in manifest["leaves"]]
    other = "it was saved from another generator or with other settings; start a new run"
    if names != saved:
        odd = next(iter(sorted(set(names) ^ set(saved))), "the order of entries")
        raise InputError(f"{path} does not fit this run (first difference: {odd}); {other}")
    leaves = []
    for (_, target), leaf, array in zip(wanted, manifest["leaves"], arrays, strict=True):
        value = (
            jax.random.wrap_key_data(jnp.asarray(array), impl=leaf["key"]) if leaf["key"] else array
        )
        if np.shape(target) != value.shape:
            raise InputError(
                f"{path}: {leaf['name']} has shape {list(value.shape)}, but this run needs "
                f"{list(np.shape(target))}; {other}"
            )
        leaves.append(value if leaf["key"] else jnp.asarray(value))
    return jax.tree_util.tree_unflatten(structure, leaves)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax from printing what it also raises."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _leaf_name(index: int) -> str:
    return f"leaf{index:05d}"
