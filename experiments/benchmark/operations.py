"""Which operations a program's time goes into, by JAX's own trace."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from rich.table import Table

from experiments.benchmark.cases import Case

# Scopes (`jax.named_scope`) of the renderer's operations.
SCOPES = ("border", "lookup", "decoder", "fine_depths", "merging", "compositing")
REST = "rest"


def operation_shares(case: Case, repeats: int) -> dict[str, float]:
    """Share of each of the renderer's operations in the time of all, and of the rest.

    What XLA fuses counts as the operation that it ends with. Shares are of the time that threads
    were at work, so that other work on the machine changes them little.

    Args:
      case: compiled once more, and run once before the trace.
      repeats: runs in the trace.

    Returns:
      Shares by `SCOPES` and "rest", largest first; empty where the device's trace names no
      operations.
    """
    compiled = jax.jit(case.function).lower(*case.arguments).compile()
    scopes = scopes_of_operations(compiled.as_text() or "")
    arguments = list(case.arguments)
    if case.carries:  # a step eats its state
        arguments[0] = jax.tree.map(jnp.copy, arguments[0])
    nanoseconds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for run in range(1 + repeats):
            if run == 1:
                jax.profiler.start_trace(folder)
            result = jax.block_until_ready(compiled(*arguments))
            if case.carries:
                arguments[0] = result[0]
        jax.profiler.stop_trace()
        for file in Path(folder).rglob("*.xplane.pb"):
            trace = jax.profiler.ProfileData.from_file(str(file))
            for event in (e for p in trace.planes for line in p.lines for e in line.events):
                operation = dict(event.stats).get("hlo_op")
                # A loop's own time is that of the operations in it.
                if operation in scopes:
                    nanoseconds[scopes[operation]] += event.duration_ns
    total = sum(nanoseconds.values())
    return {name: spent / total for name, spent in nanoseconds.most_common()}


def scopes_of_operations(program: str) -> dict[str, str]:
    """Scope of every operation of a compiled program's text, by name; loops are left out."""
    found = {}
    for line in program.splitlines():
        match = re.match(r"\s*(?:ROOT )?%?([\w.-]+) = ", line)
        if match and not re.search(r"[\])}] (while|conditional|call)\(", line):
            path = re.search(r'op_name="([^"]*)"', line)
            names = re.findall(r"\w+", path.group(1)) if path else []
            found[match.group(1)] = next((n for n in names[::-1] if n in SCOPES), REST)
    return found


def shares_table(shares: Mapping[str, Mapping[str, float]]) -> Table:
    """Shares of each case in per cent."""
    shown = Table("case", *(name.replace("_", " ") for name in (*SCOPES, REST)))
    for case, found in shares.items():
        shown.add_row(case, *(f"{100 * found.get(name, 0.0):.0f}%" for name in (*SCOPES, REST)))
    return shown
