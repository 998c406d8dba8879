"""The command for a lent GPU keeps what it has, whatever fails; no test asserts a time."""

import json
import time

import pytest

from eg3d_jax.errors import InputError
from experiments.benchmark import gpu_day, gpu_device
from experiments.benchmark.gpu_programs import KEPT
from experiments.progress import Progress

PLAN = {"targets": {"sm_90": {KEPT: {"modelled_ms": 3.0, "planned_gb": 0.5}}}}


def a_day(seconds=60.0, out=None):
    return gpu_device.Day(deadline=time.monotonic() + seconds, progress=Progress(), out=out)


def test_the_table_of_differences_is_read_from_what_the_tests_print():
    output = (
        ".F.\n======= FAILURES =====\ngroup 9.9\n"
        "==== largest differences to PyTorch ====\n"
        "gradients, small (relative): ws                  1.2e-04\n"
        "a group whose name is longer than forty-eight characters: depth 3.0e-02\n"
        "1 failed, 3 passed in 15.13s\n"
        "==== short test summary info ====\nFAILED test 1e-1\n"
    )
    assert gpu_day.read_differences(output) == {
        "gradients, small (relative): ws": 1.2e-4,
        "a group whose name is longer than forty-eight characters: depth": 3.0e-2,
    }


def test_a_line_is_extrapolated_exactly_and_a_bend_is_told():
    found = gpu_device.extrapolated([10, 20, 40], [1.5, 2.5, 4.5])  # 0.5 + 0.1 a step
    assert found["extrapolated_s"] == pytest.approx(50.5)
    assert found["largest_residual_s"] == pytest.approx(0, abs=1e-12)
    assert gpu_device.extrapolated([10, 20, 40], [1.5, 2.5, 5.5])["largest_residual_s"] > 0.1


def test_what_fails_or_comes_too_late_is_noted_and_the_rest_goes_on(tmp_path):
    day = a_day(out=tmp_path / "day.json")
    assert day.attempt("bad", lambda: 1 / 0) is None
    assert day.attempt("good", lambda: 7) == 7
    day.deadline = time.monotonic() - 1
    assert day.attempt("late", lambda: 7) is None
    day.keep("part", {"value": 7})
    content = json.loads((tmp_path / "day.json").read_text())
    assert content["part"] == {"value": 7}
    assert day.part("slow", lambda: 3) == 3
    assert json.loads((tmp_path / "day.json").read_text())["seconds"]["slow"] < 1
    assert content["left out"] == {
        "bad": "ZeroDivisionError: division by zero", "late": "no time was left",
    }  # fmt: skip


def test_without_a_checkout_the_parity_is_left_out(tmp_path):
    day = a_day()
    assert gpu_day.parity(tmp_path, day) == {}
    assert "start in a checkout" in day.left_out["parity"]


def test_the_tests_named_are_there():
    folder = gpu_day._TESTS
    assert all((folder / f"test_{name}.py").is_file() for name in gpu_day._PARITY)


def test_a_plan_is_read_by_target_and_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    with pytest.raises(InputError, match="plan.json has no plan"):
        gpu_day.read_plan(path, "sm_90")
    path.write_text(json.dumps(PLAN))
    assert gpu_day.read_plan(path, "sm_90")[KEPT]["modelled_ms"] == 3.0
    with pytest.raises(InputError, match="no plan for sm_80"):
        gpu_day.read_plan(path, "sm_80")


def test_a_program_is_measured_beside_what_was_modelled(tmp_path, capsys):
    plan, out = tmp_path / "plan.json", tmp_path / "day.json"
    plan.write_text(json.dumps(PLAN))
    args = gpu_day.Args(
        config="tiny", parts=("programs",), programs=("kept",), repeats=1, plan=plan, out=out
    )
    assert gpu_day.main(args) == 0
    found = json.loads(out.read_text())["programs"][KEPT]
    assert found["measured_ms"] > 0
    assert found["modelled_ms"] == 3.0
    assert found["planned_gb"] > 0
    assert "| 3.00 |" in capsys.readouterr().out


def test_the_parity_of_either_precision_is_what_its_own_tests_print(tmp_path, monkeypatch):
    """With a folder of one file that fails in TF32, as the project's own bounds do there."""
    monkeypatch.setattr(gpu_day, "_PARITY", ("one",))
    (tmp_path / "test_one.py").write_text(
        "import os\n"
        "def test_one():\n    assert os.environ['EG3D_JAX_TEST_PRECISION'] == 'highest'\n"
    )
    (tmp_path / "conftest.py").write_text(
        "import os\ndef pytest_terminal_summary(terminalreporter):\n"
        "    terminalreporter.section('largest differences to PyTorch')\n"
        "    error = {'highest': 1e-5}.get(os.environ['EG3D_JAX_TEST_PRECISION'], 1e-3)\n"
        "    terminalreporter.write_line(f'{\"image\":<48} {error:.1e}')\n"
    )
    day = a_day(seconds=600.0)
    found = gpu_day.parity(tmp_path, day)
    assert not day.left_out
    assert found == {
        "highest": {"passed": {"test_one": True}, "differences": {"image": 1e-5}},
        "tensorfloat32": {"passed": {"test_one": False}, "differences": {"image": 1e-3}},
    }
    assert "| image | 1.0e-05 | 1.0e-03 |" in gpu_day.parity_table(found)
