"""How far the refinement moved the cameras of a run's frames, as a part of its page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inversion.wording import decimals, degrees

# Bounds of the groups of frames, degrees of yaw to either side.
_BOUNDS = (0, 15, 40, 60, 180)
_MOST = 5
_HEADINGS = (
    "yaw", "frames", "turned, median", "turned, most", "shifted, median", "shifted, most",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CameraMoves:
    """Movement of T cameras by a refinement.

    Attributes:
      names: of the frames.
      yaw_degrees: [T] of the refined cameras.
      turn_degrees: [T] turn about the head.
      shift_percent: [T] of the distance.
      focal_factor: of the focal length that all share.
    """

    names: Sequence[str]
    yaw_degrees: np.ndarray
    turn_degrees: np.ndarray
    shift_percent: np.ndarray
    focal_factor: float


def moves_table(moves: CameraMoves) -> str:
    """Format a table of groups of frames, and the frames that moved most, as HTML."""
    side, rows = np.abs(moves.yaw_degrees), []
    for low, high in zip(_BOUNDS, _BOUNDS[1:], strict=False):
        chosen = (side >= low) & (side < high)
        if chosen.any():
            beyond = f"{low}° to {high}°" if high < _BOUNDS[-1] else f"beyond {low}°"
            rows.append(_row(beyond, moves, chosen))
    if len(rows) > 1:
        rows.append(_row("all", moves, np.ones_like(side, bool)))
    head = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
    most = np.argsort(-moves.turn_degrees, kind="stable")[:_MOST].tolist()
    named = "; ".join(
        f"{html.escape(str(moves.names[i]))} at {degrees(float(moves.yaw_degrees[i]))} by "
        f"{decimals(float(moves.turn_degrees[i]), 1)}°"
        for i in most
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        f"</table></div><p>Turned most: {named}. The focal length that all share was multiplied by "
        f"{decimals(moves.focal_factor, 3)}.</p>"
        '<p class="note">From the labels given to those that the run was fitted to: turns about '
        "the head, shifts in percent of the distance. A frame that moved far more than its "
        "neighbours may show a face that was found wrongly; look at it.</p>"
    )


def _row(name: str, moves: CameraMoves, chosen: np.ndarray) -> str:
    texts = [str(np.count_nonzero(chosen))]
    for values, unit in ((moves.turn_degrees[chosen], "°"), (moves.shift_percent[chosen], " %")):
        texts += [decimals(float(value), 2) + unit for value in (np.median(values), values.max())]
    cells = "".join(f"<td>{text}</td>" for text in texts)
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'
