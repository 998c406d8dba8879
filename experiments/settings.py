"""What tells a run's settings from another's, and the frames that it was made of from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from convert_weights.pickle_reader import sha256
from eg3d_jax.cameras import to_label
from experiments.disk import flat, plain
from experiments.errors import InputError
from experiments.fingerprints import fingerprint
from experiments.frames_io import Frames

# What is known of a video's own frames; all else was chosen for all videos.
_OF_FRAMES = frozenset({"frames", "frame_labels", "frame_pictures", "frame_truth", "num_frames"})
# Not known of runs from before these were noted, which go on with what they are given.
_ONCE_UNKNOWN = frozenset({"frame_pictures", "frame_truth"})
# How much is worked on together changes rounding only; less is the advice where memory runs out.
_FREE = frozenset({"inversion.views_at_once", "inversion.rays_at_once"})


def labels_fingerprint(frames: Frames) -> str:
    """Of the frames' cameras."""
    return fingerprint({"labels": np.asarray(to_label(frames.cameras))})


def pictures_fingerprint(frames: Frames) -> str:
    """Of the frames' names and image files, as they lie on disk."""
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        digests = pool.map(sha256, frames.paths)
        named = json.dumps(list(zip(frames.names, digests, strict=True)))
    return hashlib.sha256(named.encode()).hexdigest()


def truth_fingerprint(frames: Frames) -> str | None:
    """Of the depth and mask beside the frames; None if there are none."""
    known = {"depth": frames.depth, "mask": frames.mask}
    found = {name: array for name, array in known.items() if array is not None}
    return fingerprint(found) if found else None


class OtherSettings(InputError):
    """A run cannot go on, as settings differ; `names` are theirs."""

    def __init__(self, message: str, names: frozenset[str]):
        super().__init__(message)
        self.names = names

    def of_one_video(self) -> str:
        """The message, if the frames of one among several videos have changed.

        Raises:
          OtherSettings: this one, if something differs that was chosen for all of them.
        """
        if not self.names & _OF_FRAMES:
            raise self
        return str(self)


def check_same(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder that was started with other settings.

    Raises:
      OtherSettings: saying how those that matter were and are.
    """
    old, new, missing = flat(plain(then)), flat(plain(now)), "(none)"
    differ = [
        name
        for name in sorted({*old, *new} - _FREE - (_ONCE_UNKNOWN - old.keys()))
        if old.get(name, missing) != new.get(name, missing)
    ]
    if differ:
        said = "; ".join(
            f"{name} was {old.get(name, missing)}, is {new.get(name, missing)}"
            for name in differ[:5]
        )
        more = f"; and {len(differ) - 5} more" if len(differ) > 5 else ""
        raise OtherSettings(
            f"{folder} was started with other settings: {said}{more}; resume with the same ones, "
            "or choose another --run",
            frozenset(differ),
        )
