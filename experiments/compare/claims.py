"""What the paper says of its methods, and whether it holds on the heads of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.report.tables import markdown, summary
from inversion.wording import decimals, rounded

ONE_LATENT, SEVERAL = "multi-view", "multi-latent"
DISTANCE, INTERPOLATION, DEPTH = "+ distance", "+ interpolation", "+ depth"

# What is claimed, of which method against which, in what of which frames, and the largest ratio.
_CLAIMS = (
    ("several latents fit better", SEVERAL, ONE_LATENT, "mse", "fitted", 1.0),
    ("several latents fit better", SEVERAL, ONE_LATENT, "lpips", "fitted", 1.0),
    ("and to all frames", SEVERAL, ONE_LATENT, "mse", "all", 1.0),
    ("and to all frames", SEVERAL, ONE_LATENT, "lpips", "all", 1.0),
    ("interpolation improves unseen frames", INTERPOLATION, SEVERAL, "mse", "unseen", 1.0),
    ("interpolation improves unseen frames", INTERPOLATION, SEVERAL, "lpips", "unseen", 1.0),
    ("distance draws latents together", DISTANCE, SEVERAL, "path_distance", "all", 1.0),
    ("depth makes the latents agree in depth", DEPTH, SEVERAL, "depth_spread", "all", 0.7),
    ("and brings depth nearer the truth", DEPTH, SEVERAL, "depth_error", "all", 1.0),
    ("at little loss", DEPTH, SEVERAL, "lpips", "all", 1.05),
)  # fmt: skip

# Places shown of ratios; bounds have no more.
_DIGITS = 3

Verdict = Literal["holds", "not clear", "does not hold"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim and what was measured.

    Attributes:
      claim: in words.
      method, reference: that are compared.
      metric, frames: in what; smaller is better.
      bound: largest ratio of method to reference with which the claim holds.
      ratio: mean of the heads' ratios.
      low, high: its 95 % interval; None of a single head.
      heads: how many heads are within the bound, and how many there are.
    """

    claim: str
    method: str
    reference: str
    metric: str
    frames: str
    bound: float
    ratio: float
    low: float | None
    high: float | None
    heads: tuple[int, int]

    @property
    def verdict(self) -> Verdict:
        """Not clear if the interval, as it is shown, holds the bound, or there is none."""
        if self.low is None or self.high is None:
            return "not clear"
        low, high = rounded(self.low, _DIGITS), rounded(self.high, _DIGITS)
        if low <= self.bound < high:
            return "not clear"
        return "holds" if high <= self.bound else "does not hold"


def claims(
    methods: Sequence[str],
    heads: Sequence[str],
    value: Callable[[str, str, str, str], float],
) -> list[Claim]:
    """All claims about methods that were compared, in numbers that were measured.

    Args:
      methods: that were compared.
      heads: on which.
      value: (head, method, metric, frames) -> number, NaN if unknown.
    """
    found = []
    for claim, method, reference, metric, frames, bound in _CLAIMS:
        if not {method, reference} <= set(methods):
            continue
        ratios = np.array([
            value(head, method, metric, frames) / value(head, reference, metric, frames)
            for head in heads
        ])  # fmt: skip
        mean = summary(ratios)
        if mean is not None:
            known = ratios[~np.isnan(ratios)]
            found.append(
                Claim(
                    claim=claim, method=method, reference=reference, metric=metric, frames=frames,
                    bound=bound, ratio=mean["mean"], low=mean["low"], high=mean["high"],
                    heads=(sum(rounded(x, _DIGITS) <= bound for x in known), len(known)),
                )
            )  # fmt: skip
    return found


def claims_table(found: Sequence[Claim]) -> str:
    """Markdown."""
    rows = []
    for c in found:
        interval = ""
        if c.low is not None and c.high is not None:
            interval = f" ({decimals(c.low, _DIGITS)} to {decimals(c.high, _DIGITS)})"
        rows.append([
            f"{c.claim}: {c.method} / {c.reference}", f"{c.metric}, {c.frames} frames",
            f"{decimals(c.ratio, _DIGITS)}{interval}", f"≤ {c.bound:g}",
            f"{c.heads[0]} of {c.heads[1]}", c.verdict,
        ])  # fmt: skip
    return markdown(["claim", "in", "ratio", "claimed", "heads", ""], rows)
