"""Output of a comparison: tables, a picture, numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from einops import rearrange
from rich.table import Table

from experiments.crosscheck.comparison import Difference, Side, Tolerances, verdict
from experiments.media.pictures import colour_depth, grid, to_uint8
from inversion.wording import beside

_ROWS = 6
_COLUMNS = ("theirs", "ours", "difference", "their depth", "our depth")


def difference_table(differences: Sequence[Difference]) -> Table:
    """Tabulate the largest and mean difference of every stage beside its tolerance."""
    table = Table("stage", "largest", "mean", "tolerance", "", title="differences")
    for item in differences:
        largest, tolerance = beside(item.largest, item.tolerance, 1, "e")
        note = "" if item.agrees else "beyond"
        unit = " (relative)" if item.stage == "gradient" else ""
        table.add_row(item.stage + unit, largest, f"{item.mean:.1e}", tolerance, note)
    return table


def cost_table(theirs: Side, ours: Side) -> Table:
    """Tabulate time of a view and memory of the two sides."""
    table = Table("", f"PyTorch {theirs.version}", f"JAX {ours.version}", title="time and memory")
    table.add_row("device", theirs.device, ours.device)
    for name in ("forward", "gradient"):
        for title, choose in (("first", lambda x: x[0]), ("fastest", min)):
            cells = (f"{choose(side.seconds[name]):.3f} s" for side in (theirs, ours))
            table.add_row(f"{name}, {title} view", *cells)
    for name in ("host", "device"):
        cells = [_mebibytes(side.memory.get(name)) for side in (theirs, ours)]
        if any(cells):
            table.add_row(f"peak memory, {name}", *cells)
    return table


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f} MiB"


def picture(theirs: Side, ours: Side, tolerances: Tolerances) -> np.ndarray:
    """Draw both images of the first views, their difference (white: the tolerance), both depths."""
    rows, labels = [], []
    latents, cameras = theirs.arrays["image"].shape[:2]
    depths = theirs.arrays["depth"]
    near, far = float(depths.min()), float(max(depths.max(), depths.min() + 1e-3))
    for view in range(min(latents * cameras, _ROWS)):
        at = divmod(view, cameras)
        images = [rearrange(side.arrays["image"][at], "c h w -> h w c") for side in (theirs, ours)]
        apart = np.abs(images[0] - images[1]) / tolerances.image
        rows.append(
            [
                *(to_uint8(image) for image in (*images, 2 * apart - 1)),
                *(
                    colour_depth(side.arrays["depth"][at][0], near=near, far=far)
                    for side in (theirs, ours)
                ),
            ]
        )
        labels.append(f"z {at[0] + 1}, c {at[1] + 1}")
    return grid(rows, columns=_COLUMNS, labels=labels, side=max(64, rows[0][0].shape[0]))


def numbers(differences: Sequence[Difference], theirs: Side, ours: Side) -> dict[str, Any]:
    """All figures as JSON values."""
    return {
        "verdict": verdict(differences),
        "agree": all(difference.agrees for difference in differences),
        "differences": {
            item.stage: dataclasses.asdict(item) | {"agrees": item.agrees} for item in differences
        },
        **{
            name: {field: value for field, value in vars(side).items() if field != "arrays"}
            for name, side in (("theirs", theirs), ("ours", ours))
        },
    }
