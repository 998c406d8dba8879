"""What a run found, in numbers and in plain sentences that follow from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inversion.evaluation import frame_groups, mean_over
from inversion.wording import Change, decimals

_WORDS = "no one two three four five six seven eight nine ten eleven twelve".split()
GROUPS = ("fitted", "not fitted", "side, not fitted")


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """One way of inversion, measured on all T frames; NaN where a frame was not evaluated.

    Attributes:
      name: as the tables call it, e.g. "7 views, tuned".
      fitted: indices of the frames that it was fitted to.
      tuned: whether the generator was tuned, not only a latent found.
      latents: number of latents; more than one are interpolated between the views.
      psnr: [T] dB.
      lpips: [T] distance, lower is better.
      psnr_foreground: [T] dB over the head alone, or None.
      losses: [num_steps] for each term, for the curves; may be empty.
      seconds: wall time of the fitting.
    """

    name: str
    fitted: frozenset[int]
    tuned: bool
    psnr: np.ndarray
    lpips: np.ndarray
    psnr_foreground: np.ndarray | None = None
    latents: int = 1
    losses: Mapping[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def views(self) -> str:
        """The number of views in words: "one view", "seven views"."""
        count = len(self.fitted)
        word = _WORDS[count] if count < len(_WORDS) else str(count)
        return f"{word} view{'' if count == 1 else 's'}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods on the frames of one head.

    Attributes:
      yaw_degrees: [T] yaw of the frames, 0 frontal.
      methods: in the order of the tables.
      side_degrees: a frame beyond this absolute yaw shows the head from the side.
    """

    yaw_degrees: np.ndarray
    methods: Sequence[MethodResult]
    side_degrees: float = 40.0

    def __post_init__(self):
        for method in self.methods:
            for name in ("psnr", "lpips", "psnr_foreground"):
                values = getattr(method, name)
                if values is not None and np.shape(values) != np.shape(self.yaw_degrees):
                    raise ValueError(
                        f"{method.name}: {name} has shape {np.shape(values)}, yaw_degrees "
                        f"{np.shape(self.yaw_degrees)}; give one value per frame"
                    )

    def group(self, name: str, method: MethodResult) -> np.ndarray:
        """[T] which frames belong to one of `GROUPS`.

        "fitted" are the method's own; the others are the same for all methods, frames that none of
        them was fitted to, so that their means compare.
        """
        index = np.arange(len(self.yaw_degrees))
        fitted = np.isin(index, list(method.fitted))
        unseen = ~np.isin(index, [i for other in self.methods for i in other.fitted])
        return frame_groups(
            self.yaw_degrees, fitted, unseen=unseen, side_degrees=self.side_degrees
        )[name]

    def mean(self, metric: str, group: str, method: MethodResult) -> float | None:
        """Mean of a metric over a group's evaluated frames; None if there are none."""
        return mean_over(getattr(method, metric), self.group(group, method))

    def numbers(self) -> list[dict[str, Any]]:
        """The table as plain values, for metrics.json."""
        return [
            {
                "method": method.name,
                "views": len(method.fitted),
                "tuned": method.tuned,
                "latents": method.latents,
                "seconds": method.seconds,
                "groups": {
                    group: {
                        "frames": int(self.group(group, method).sum()),
                        **{
                            metric: self.mean(metric, group, method)
                            for metric in ("psnr", "psnr_foreground", "lpips")
                        },
                    }
                    for group in GROUPS
                },
            }
            for method in self.methods
        ]

    def sentences(self) -> list[str]:
        """What the numbers say about more views and about tuning, for better or worse."""
        yaw = self.yaw_degrees
        found = [
            f"The head was evaluated on {len(yaw)} frames from {decimals(yaw.min(), 0)} to "
            f"{decimals(yaw.max(), 0)} degrees of yaw."
        ]
        single = [m for m in self.methods if m.latents == 1]
        most = max(single, key=lambda m: (len(m.fitted), m.tuned), default=None)
        if most is None:
            return found
        fewer = [m for m in single if m.tuned == most.tuned and len(m.fitted) < len(most.fitted)]
        if fewer:
            found.append(self._more_views(most, min(fewer, key=lambda m: len(m.fitted))))
        latent = [m for m in single if not m.tuned and m.fitted == most.fitted]
        if most.tuned and latent:
            found.append(self._tuning(most, latent[0]))
        several = [m for m in self.methods if m.latents > 1 and m.tuned == most.tuned]
        return found + [self._more_latents(m, most) for m in several if m.fitted == most.fitted]

    def _more_latents(self, many: MethodResult, one: MethodResult) -> str:
        parts = []
        for group, where in ((GROUPS[0], "fitted"), (GROUPS[1], "not fitted")):
            changes = self._changes(group, one, many)
            if changes is None:
                continue
            psnr, lpips = changes
            count = int(self.group(group, many).sum())
            verdict = _verdict("better", "not better", psnr, lpips)
            parts.append(
                f"{_decibels(psnr)} on the {count} frames {where} ({psnr.old} to {psnr.new} dB; "
                f"LPIPS {lpips.old} to {lpips.new}): {verdict}"
            )
        return f"{many.latents} latents instead of one: {'; '.join(parts)}."

    def _more_views(self, many: MethodResult, few: MethodResult) -> str:
        group = GROUPS[2] if self.group(GROUPS[2], many).any() else GROUPS[1]
        if group == GROUPS[2]:
            where = f"Beyond {self.side_degrees:g} degrees of yaw, on {self._count(group, many)}"
        else:
            where = (
                f"No frame beyond {self.side_degrees:g} degrees of yaw was left to test on; on "
                f"{self._count(group, many)}"
            )
        changes = self._changes(group, few, many)
        if changes is None:
            return "All frames were fitted, so nothing can be said about views not seen."
        psnr, lpips = changes
        verdict = _verdict("more views help", "more views do not help", psnr, lpips)
        return (
            f"{where}, {many.views} reach {psnr.new} dB where {few.views} "
            f"{'reaches' if len(few.fitted) == 1 else 'reach'} {psnr.old} dB ({_decibels(psnr)}); "
            f"LPIPS is {lpips.new} against {lpips.old} (lower is better): {verdict}."
        )

    def _tuning(self, tuned: MethodResult, latent: MethodResult) -> str:
        changes = self._changes(GROUPS[1], latent, tuned)
        if changes is None:
            return "What tuning adds on views not seen cannot be said: all frames were fitted."
        psnr, lpips = changes
        verb = "gains" if psnr.rise > 0 else "loses" if psnr.rise < 0 else "changes PSNR by"
        verdict = _verdict("tuning helps", "tuning does not help", psnr, lpips)
        return (
            f"Tuning the generator around the latent of {tuned.views} {verb} "
            f"{decimals(abs(psnr.rise), psnr.digits)} dB on {self._count(GROUPS[1], tuned)} "
            f"({psnr.old} to {psnr.new} dB) and takes LPIPS from {lpips.old} to {lpips.new}: "
            f"{verdict}."
        )

    def _changes(
        self, group: str, before: MethodResult, after: MethodResult
    ) -> tuple[Change, Change] | None:
        """PSNR and LPIPS from one method to another; None without frames."""
        psnr = self.mean("psnr", group, before), self.mean("psnr", group, after)
        lpips = self.mean("lpips", group, before), self.mean("lpips", group, after)
        if psnr[0] is None or psnr[1] is None or lpips[0] is None or lpips[1] is None:
            return None
        return (
            Change(psnr[0], psnr[1], digits=1, higher_is_better=True),
            Change(lpips[0], lpips[1], digits=3, higher_is_better=False),
        )

    def _count(self, group: str, method: MethodResult) -> str:
        count = int(self.group(group, method).sum())
        return "the one frame not fitted" if count == 1 else f"the {count} frames not fitted"


def _decibels(change: Change) -> str:
    return f"{decimals(change.rise, change.digits, signed=True)} dB"


def _verdict(yes: str, no: str, psnr: Change, lpips: Change) -> str:
    if psnr.better and lpips.better:
        return f"{yes} in both measures"
    if not psnr.better and not lpips.better:
        return f"{no} in either measure"
    better, worse = ("PSNR", "LPIPS") if psnr.better else ("LPIPS", "PSNR")
    return f"{yes} in {better} but not in {worse}"
