"""The benchmark counts, compares and refuses as it says; no test asserts a time."""

import dataclasses
import functools
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.errors import InputError
from experiments.benchmark import bars
from experiments.benchmark import main as command
from experiments.benchmark.cases import Case
from experiments.benchmark.measuring import Ceilings, Measurement, measure
from experiments.benchmark.operations import REST, operation_shares, scopes_of_operations
from experiments.benchmark.peak_memory import PeakMemory, tree_bytes
from experiments.benchmark.promises import LATENT, TUNING, Bar, cpu_bars, memory_bars
from experiments.benchmark.results import slower, table

LONG = bool(os.environ.get("EG3D_JAX_LONG_TESTS"))


def measurement(name="a", seconds=(2.0, 1.0, 4.0), **changes):
    numbers = {"compile_seconds": 1.0, "flops": 4e9, "bytes": 1e9, "peak_bytes": 0} | changes
    return Measurement(name=name, seconds=seconds, **numbers)


def test_operations_and_bytes_of_a_product_are_those_counted_by_hand():
    a, b = jnp.ones((64, 32)), jnp.ones((32, 16))
    found = measure(Case(name="product", function=jnp.matmul, arguments=(a, b)), repeats=3)
    assert found.flops == 2 * 64 * 32 * 16
    assert found.bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert found.peak_bytes >= found.bytes
    assert len(found.seconds) == 3
    assert min(found.seconds) > 0


def test_a_step_is_run_on_and_leaves_its_case_intact():
    step = Case(
        name="step",
        function=jax.jit(lambda x, y: (x + y, x), donate_argnums=0),
        arguments=(jnp.zeros(3), jnp.ones(3)),
        carries=True,
    )
    measure(step, repeats=2)
    assert float(step.arguments[0].sum()) == 0.0


def test_shares_of_the_ceilings_are_rates_over_rates():
    found = measurement(seconds=(2.0, 2.0))  # 4e9 operations and 1e9 bytes in 2 s
    ceilings = Ceilings(flops=4e9, bandwidth=1e9)
    assert found.arithmetic_share(ceilings) == 0.5
    assert found.traffic_share(ceilings) == 0.5


def test_median_and_spread():
    found = measurement(seconds=(2.0, 1.0, 4.0))
    assert found.median == 2.0
    assert found.spread == 1.5


def test_only_a_fastest_run_beyond_the_tolerance_counts_as_slower():
    now = [measurement("a", (1.3, 9.0)), measurement("b", (1.2, 9.0)), measurement("new", (9.0,))]
    assert slower(now, {"a": 1.0, "b": 1.0}, 0.25) == {"a": 1.3}
    shown = table(now, Ceilings(flops=1e9, bandwidth=1e9), {"a": 1.0})
    assert shown.row_count == 3


def test_the_command_writes_what_it_compares_with_later(tmp_path, monkeypatch, capsys):
    once = functools.cache(command.measure_ceilings)
    monkeypatch.setattr(command, "measure_ceilings", once)
    out = tmp_path / "results" / "tiny.json"
    args = command.Args(config="tiny", cases=("mapping", "renderer"), repeats=1, out=out)
    assert command.main(args) == 0
    content = json.loads(out.read_text())
    assert list(content["cases"]) == ["mapping", "renderer"]
    assert content["ceilings"]["flops"] > 0
    assert content["cases"]["renderer"]["flops"] > 0
    for case in content["cases"].values():
        case["median_seconds"] = 1e9
    out.write_text(json.dumps(content))
    again = command.Args(config="tiny", cases=("mapping",), repeats=1, compare=out)
    assert command.main(again) == 0
    content["cases"]["mapping"]["median_seconds"] = 1e-12
    out.write_text(json.dumps(content))
    assert command.main(again) == 1
    assert "slower than before" in capsys.readouterr().out
    with pytest.raises(InputError, match="another views: 1, now 2"):
        command.main(command.Args(config="tiny", cases=("mapping",), views=2, compare=out))


def test_memory_that_was_taken_and_given_back_is_seen():
    # In pieces too small to be given back at once, with the last one on top.
    freed = [np.ones(10**4) for _ in range(2500)]  # 200 MB
    del freed[:-1]
    with PeakMemory() as peak:
        np.ones(10**7)  # 80 MB
    assert peak.grown is not None
    assert 79e6 < peak.grown < 120e6
    assert tree_bytes((jnp.zeros(3), "text", jax.random.key(0))) >= 12


def test_measured_memory_is_near_the_plan():
    """Ten products of 16 MB, all kept: 160 MB beside the argument."""

    def kept(x):
        rows = [x @ (x + i) for i in range(10)]
        return [row - jnp.sum(rows[0]) for row in rows]

    found = measure(Case(name="kept", function=kept, arguments=(jnp.ones((2048, 2048)),)), 1)
    assert found.measured_bytes is not None
    assert abs(found.peak_bytes / found.measured_bytes - 1) < 0.5


def test_bounds_on_a_cpu_follow_its_convolution():
    """Half as fast a machine may take twice as long; memory and compilation stay."""
    gradient = measurement("gradient of ws", (15.0,), peak_bytes=3_000_000_000)
    found = {
        name: measurement(name, (20.0,), measured_bytes=0)
        for name in ("synthesis", "tuning step, 1 view", LATENT, TUNING)
    } | {gradient.name: dataclasses.replace(gradient, measured_bytes=4_500_000_000)}
    pace = {"synthesis": 102.5e9, "gradient of ws": 102.5e9, "tuning step, 1 view": 205e9}
    kept = {bar.name: bar for bar in [*cpu_bars(found, pace), *memory_bars(found, True)]}
    assert kept["synthesis"].bound == pytest.approx(5.8)
    assert not kept["synthesis"].kept
    assert kept["gradient of W+"].kept
    assert kept["tuning step, a view"].bound == pytest.approx(14.0)
    assert kept["gradient of W+, memory"].value == 4.5
    assert not kept["gradient of W+, memory"].kept
    foretold = kept["gradient of ws, memory foretold against measured"]
    assert foretold.value == pytest.approx(100 / 3)
    assert Bar(name="a", value=5.0, bound=4.0, unit="x", at_least=True).kept


@pytest.mark.skipif(not LONG, reason="a minute and a half; set EG3D_JAX_LONG_TESTS=1")
def test_one_command_measures_all_promises(tmp_path):
    out = tmp_path / "bars.json"
    assert bars.main(bars.Args(config="tiny", repeats=1, out=out)) in (0, 1)
    content = json.loads(out.read_text())
    assert {"synthesis", "longest compilation"} <= {bar["name"] for bar in content["bars"]}
    assert "| 9 | 9 |" in content["notes"]["memory of a latent step, GB"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": ("nonsense",)}, "names none of: mapping, backbone"),
        ({"repeats": 0}, "--repeats 0 must be from 1 to 1000000$"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        command.main(command.Args(config="tiny", **changes))


def test_shares_of_operations_are_named_by_their_scopes_and_sum_to_one():
    def program(x):
        with jax.named_scope("lookup"):
            x = jnp.sin(x)[jnp.array([1, 0])]
        with jax.named_scope("decoder"):
            return jax.nn.softplus(x @ x)

    case = Case(name="both", function=jax.grad(lambda x: program(x).sum()),
                arguments=(jnp.ones((2, 2)),))  # fmt: skip
    found = operation_shares(case, repeats=2)
    assert sum(found.values()) == pytest.approx(1.0)
    assert {"lookup", "decoder"} <= set(found) <= {"lookup", "decoder", REST}


def test_an_operation_counts_for_its_innermost_scope_and_loops_for_none():
    program = """
  %fusion.3 = f32[8]{0} fusion(%a), kind=kLoop, metadata={op_name="jit(f)/lookup/decoder/mul"}
  ROOT %dot = f32[8]{0} dot(%a, %b), metadata={op_name="transpose(jvp(lookup))/dot_general"}
  %copy = f32[8]{0} copy(%a)
  %while.3 = (s32[], f32[8]{0}) while(%t), body=%b, metadata={op_name="jit(f)/merging/while"}
"""
    wanted = {"fusion.3": "decoder", "dot": "lookup", "copy": REST}
    assert scopes_of_operations(program) == wanted
