"""Results of a benchmark as a table and as JSON, and one set beside an earlier one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from eg3d_jax.errors import InputError
from experiments.benchmark.measuring import Ceilings, Measurement

_FORMAT = "eg3d_jax benchmark 1"


def as_json(
    measurements: Sequence[Measurement],
    ceilings: Ceilings,
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """All numbers as plain values."""
    return {
        "format": _FORMAT,
        "settings": dict(settings),
        "versions": dict(versions),
        "ceilings": dataclasses.asdict(ceilings),
        "cases": {
            m.name: {
                "compile_seconds": m.compile_seconds,
                "seconds": list(m.seconds),
                "median_seconds": m.median,
                "spread": m.spread,
                "flops": m.flops,
                "bytes": m.bytes,
                "peak_bytes": m.peak_bytes,
                "measured_bytes": m.measured_bytes,
                "arithmetic_share": m.arithmetic_share(ceilings),
                "traffic_share": m.traffic_share(ceilings),
            }
            for m in measurements
        },
    }


def read_earlier(path: Path, settings: Mapping[str, Any], device: str) -> dict[str, float]:
    """Median seconds by case of an earlier run with the same settings on the same kind of device.

    Raises:
      InputError: if the file is none, or its numbers do not compare.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"--compare {path} cannot be read ({error})") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"--compare {path} is no result of this command; give its JSON file")
    differ = [k for k in settings if content["settings"].get(k) != settings[k]]
    if differ:
        raise InputError(
            f"--compare {path} was measured with another {differ[0]}: "
            f"{content['settings'].get(differ[0])}, now {settings[differ[0]]}; use the same"
        )
    if content["versions"]["device"] != device:
        raise InputError(
            f"--compare {path} was measured on {content['versions']['device']}, this is {device}; "
            "run the older code here first"
        )
    return {name: case["median_seconds"] for name, case in content["cases"].items()}


def slower(
    measurements: Sequence[Measurement], earlier: Mapping[str, float], tolerance: float
) -> dict[str, float]:
    """Cases whose fastest run took more than (1 + tolerance) of the earlier median: the ratios."""
    ratios = {m.name: min(m.seconds) / earlier[m.name] for m in measurements if m.name in earlier}
    return {name: ratio for name, ratio in ratios.items() if ratio > 1 + tolerance}


def table(
    measurements: Sequence[Measurement], ceilings: Ceilings, earlier: Mapping[str, float]
) -> Table:
    """The results as a table for a terminal."""
    result = Table(
        title=(
            f"ceilings of this run: {ceilings.flops / 1e9:.0f} GFLOP/s, "
            f"{ceilings.bandwidth / 1e9:.1f} GB/s"
        )
    )
    heads = ["case", "compile s", "median s", "spread", "GFLOP", "GB", "planned GB", "measured GB"]
    heads += ["of FLOP/s", "of GB/s"]
    for i, head in enumerate(heads + (["earlier s", "ratio"] if earlier else [])):
        result.add_column(head, justify="left" if i == 0 else "right")
    for m in measurements:
        row = [
            m.name,
            f"{m.compile_seconds:.1f}",
            f"{m.median:.4f}",
            f"{m.spread:.0%}",
            f"{m.flops / 1e9:.1f}",
            f"{m.bytes / 1e9:.2f}",
            f"{m.peak_bytes / 1e9:.2f}",
            "-" if m.measured_bytes is None else f"{m.measured_bytes / 1e9:.2f}",
            f"{m.arithmetic_share(ceilings):.0%}",
            f"{m.traffic_share(ceilings):.0%}",
        ]
        if earlier:
            then = earlier.get(m.name)
            row += ["", ""] if then is None else [f"{then:.4f}", f"{m.median / then:.2f}"]
        result.add_row(*row)
    return result
