"""What a compiled program for a GPU is read as, and the command around it; nothing is compiled."""

import dataclasses
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.convolution import conv2d, conv2d_up
from eg3d_jax.errors import InputError
from experiments.benchmark import gpu_plan, gpu_target
from experiments.benchmark.gpu_programs import LATENT, NAMES, SYNTHESIS, TUNING, shapes_of
from experiments.benchmark.gpu_reading import (
    compares_and_swaps,
    read_atomics,
    read_program,
)
from experiments.benchmark.gpu_target import TARGETS, Plan

# As XLA prints optimised HLO for a GPU: a convolution, both of its gradients, a product, a scatter,
# and a loop of three rounds with a kernel and a copy in it.
HLO = """HloModule jit_f, is_scheduled=true

%fused_add (p: f32[8,16]) -> f32[8,16] {
  %p = f32[8,16]{1,0} parameter(0)
  ROOT %a = f32[8,16]{1,0} add(%p, %p)
}

%body (state: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %state = (s32[], f32[8,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %v = f32[8,16]{1,0} get-tuple-element(%state), index=1
  %loop_add_fusion.7 = f32[8,16]{1,0} fusion(%v), kind=kLoop, calls=%fused_add, backend_config={"reification_cost":[{"exec_time_us":0.5,"name":""},{"exec_time_us":0.25,"name":"sol"}]}
  %copy.1 = s32[] copy(%i), backend_config={"reification_cost":[{"exec_time_us":0.125,"name":""}]}
  ROOT %t = (s32[], f32[8,16]{1,0}) tuple(%copy.1, %loop_add_fusion.7)
}

ENTRY %main.2 (x.1: f32[2,10,12,4], k.1: f32[6,3,3,4]) -> (f32[2,10,12,6], f32[8,16]) {
  %x.1 = f32[2,10,12,4]{3,2,1,0} parameter(0), metadata={op_name="x"}
  %k.1 = f32[6,3,3,4]{3,2,1,0} parameter(1)
  %cudnn-conv.1 = (f32[2,10,12,6]{3,2,1,0}, u8[0]{0}) custom-call(%x.1, %k.1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", backend_config={"reification_cost":[]}
  %y = f32[2,10,12,6]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  %cudnn-conv-bw-input = (f32[2,10,12,4]{3,2,1,0}, u8[0]{0}) custom-call(%y, %k.1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput", operand_precision={highest,highest}
  %cudnn-conv-bw-filter = (f32[6,3,3,4]{3,2,1,0}, u8[0]{0}) custom-call(%x.1, %y), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %gemm_fusion_dot.3 = f32[8,16]{1,0} fusion(%x.1), kind=kCustom, calls=%fused_add, backend_config={"fusion_backend_config":{"kind":"__triton_nested_gemm_fusion"},"reification_cost":[{"exec_time_us":2,"name":""}]}
  %zero = s32[] constant(0)
  %tuple.1 = (s32[], f32[8,16]{1,0}) tuple(%zero, %gemm_fusion_dot.3)
  %while.1 = (s32[], f32[8,16]{1,0}) while(%tuple.1), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %out = f32[8,16]{1,0} get-tuple-element(%while.1), index=1
  ROOT %tuple.2 = (f32[2,10,12,6]{3,2,1,0}, f32[8,16]{1,0}) tuple(%y, %out)
}
"""  # noqa: E501

# Multiplications and additions of the convolution, by hand: batch x outputs x taps x channels.
FLOP = 2 * (2 * 10 * 12 * 6) * (3 * 3) * 4


def test_launches_times_and_convolutions_are_those_counted_by_hand():
    found = read_program(HLO)
    assert found.launches == 3 + 1 + 3 * 2
    assert found.convolutions == {
        "convForward b01f_o01i->b01f": 1,
        "convBackwardInput b01f_o01i->b01f": 1,
        "convBackwardFilter b01f_o01i->b01f": 1,
    }
    # A gradient takes as many operations as the convolution.
    assert found.convolution_flop == 3 * FLOP
    assert found.kernel_microseconds == 2 + 3 * (0.5 + 0.125)
    assert found.precision == {
        "convolution default": 2, "convolution highest": 1, "product default": 1,
    }  # fmt: skip
    assert found.milliseconds(3 * FLOP, 6 * FLOP) == pytest.approx(1e3 + 3.875e-3)
    assert found.unlibrary_convolutions == 0
    assert "f64" not in found.element_types


def test_convolutions_in_bfloat16_are_told_apart():
    text = HLO.replace("cudnn-conv.1 = (f32", "cudnn-conv.1 = (bf16")
    found = read_program(text)
    assert found.half_flop == FLOP
    milliseconds = found.milliseconds(2 * FLOP, 4 * FLOP)
    assert milliseconds == pytest.approx(1e3 + 250 + 3.875e-3)


def test_a_convolution_outside_cudnn_and_float64_are_seen():
    text = HLO.replace("  %zero", "  %c = f64[2] convolution(%x.1, %k.1)\n  %zero")
    found = read_program(text)
    assert found.unlibrary_convolutions == 1
    assert "f64" in found.element_types


def test_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        read_program("HloModule empty")


def test_atomics_are_counted_by_kind():
    ptx = ["  atom.global.v4.f32.add {a}, [b];\n", "  red.global.add.f32 [a], b;\n // .cas",
           "  atom.global.cas.b32 a, [b];\n  atom.global.cas.b32 a, [b];\n"]  # fmt: skip
    found = read_atomics(ptx)
    assert found == {"atom.global.v4.f32.add": 1, "red.global.add.f32": 1, "atom.global.cas.b32": 2}
    assert compares_and_swaps(found) == 2


def plan(**changes):
    values = {
        "reading": read_program(HLO), "atomics": read_atomics([]), "peak_bytes": 3 * 10**9,
        "temporary_bytes": 2 * 10**9, "compile_seconds": 1.0, "text": HLO,
    }  # fmt: skip
    return Plan(**(values | changes))


def found_with(**changes):
    values = gpu_plan.numbers(plan(**changes), TARGETS["sm_90"], 0.4)
    found = {"sm_90": {LATENT: values, TUNING: values}}
    gpu_plan.add_schedule(found["sm_90"])
    return found


def test_what_was_found_keeps_the_bounds_made_from_it_and_more_does_not():
    found = found_with()
    limits = gpu_plan.bounds_from(found, 0.1)
    kept = gpu_plan.bars(found, limits)
    assert len(kept) == 2 * 7 + 1
    assert all(bar.kept for bar in kept)
    more = found_with(temporary_bytes=int(2.3e9), atomics=read_atomics(["atom.cas.b32 a;"]))
    broken = [bar.name for bar in gpu_plan.bars(more, limits) if not bar.kept]
    assert broken == [
        f"sm_90: {name}, {what}"
        for name in (LATENT, TUNING)
        for what in ("temporary memory", "atomics that compare and swap")
    ]


def test_a_target_without_a_model_has_no_times_and_the_other_bounds():
    values = gpu_plan.numbers(plan(), TARGETS["sm_80"], 0.4)
    found = {"sm_80": {LATENT: values, TUNING: values}}
    gpu_plan.add_schedule(found["sm_80"])
    assert set(found["sm_80"]) == {LATENT, TUNING}
    limits = gpu_plan.bounds_from(found, 0.1)
    assert set(limits["sm_80"][LATENT]) == {"launches", "temporary_gb"}
    assert all(bar.kept for bar in gpu_plan.bars(found, limits))
    assert f"| {LATENT} | 10 | 3 | - | 0.000 | - | - | 2.00 |" in gpu_plan.table(
        "sm_80", found["sm_80"]
    )


def test_a_schedule_is_five_hundred_of_either_step():
    step = found_with()["sm_90"][LATENT]["modelled_ms"]
    found = found_with()["sm_90"]["schedule of 500 + 500 steps"]
    assert found["modelled_s"] == pytest.approx(500 * 2 * step / 1e3, abs=0.05)


def test_channels_first_is_beyond_a_bound():
    text = HLO.replace("b01f_o01i->b01f", "bf01_oi01->bf01", 1)
    broken = [b for b in gpu_plan.bars(found_with(reading=read_program(text)), {}) if not b.kept]
    assert {bar.name.split(", ")[-1] for bar in broken} == {"convolutions not with channels last"}


def test_the_projects_bounds_are_of_programs_that_there_are():
    bounds = gpu_plan.read_bounds(gpu_plan.BOUNDS)
    assert set(bounds) <= set(TARGETS)
    for programs in bounds.values():
        assert set(programs) <= {*NAMES, "schedule of 500 + 500 steps"}


def test_without_the_plug_in_the_command_says_why_it_skips(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert gpu_plan.main(gpu_plan.Args()) == 0
    assert "gpu-plan" in capsys.readouterr().out


def test_wrong_options_are_refused_before_anything_is_compiled(tmp_path):
    with pytest.raises(InputError, match="names none of"):
        gpu_plan.main(gpu_plan.Args(programs=("nothing",)))
    bad = tmp_path / "bounds.json"
    bad.write_text(json.dumps({"sm_12": {}}))
    with pytest.raises(InputError, match="holds no bounds"):
        gpu_plan.main(gpu_plan.Args(bounds=bad))


def test_the_command_compares_what_it_compiles(monkeypatch, tmp_path, capsys):
    """With a compiler that returns the text above."""
    monkeypatch.setattr(gpu_plan, "missing", lambda: None)
    monkeypatch.setattr(gpu_plan, "sharding", lambda target: None)
    monkeypatch.setattr(gpu_plan, "compile_for", lambda *_, **__: plan())
    out, bounds = tmp_path / "plan.json", tmp_path / "bounds.json"
    args = gpu_plan.Args(programs=(SYNTHESIS,), targets=("sm_90",), out=out, texts=tmp_path)
    assert gpu_plan.main(dataclasses.replace(args, write_bounds=bounds)) == 0
    again = dataclasses.replace(args, bounds=bounds)
    assert gpu_plan.main(again) == 0
    content = json.loads(out.read_text())
    assert set(content["targets"]["sm_90"]) == {n for n in NAMES if SYNTHESIS in n}
    assert "modelled, not measured" in content["what"]
    limits = json.loads(bounds.read_text())
    limits["sm_90"][SYNTHESIS]["launches"] = 1
    bounds.write_text(json.dumps(limits))
    assert gpu_plan.main(again) == 1
    assert "beyond its bound: sm_90: synthesis, launches: 10" in capsys.readouterr().out


def test_programs_are_shapes_of_the_official_size():
    case = shapes_of(SYNTHESIS)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(case.arguments))
    out = jax.eval_shape(case.function, *case.arguments)
    assert out.image.shape == (512, 512, 3)


def traced(loss, shapes, device):
    with jax.default_device(device):
        return str(jax.make_jaxpr(jax.grad(loss))(*shapes))


@pytest.mark.parametrize("convolve", [conv2d, conv2d_up])
def test_a_gpu_gets_library_convolutions_with_gradients_over_all_views(convolve):
    """No interleaving there, and one gradient of the kernel whatever the number of views."""

    def loss(kernel, views):
        return jnp.sum(jnp.square(jax.vmap(lambda x: convolve(x, kernel))(views)))

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((3, 3, 4, 5), (6, 8, 8, 4))]
    on_gpu, on_cpu = (traced(loss, shapes, device) for device in ("gpu", "cpu"))
    assert on_gpu.count("conv_general_dilated[") == 2
    assert "concatenate" not in on_gpu
    assert "dot_general" not in on_gpu
    assert on_cpu.count("dot_general[") == 9


def test_an_environment_with_the_plug_in_can_compile(monkeypatch):
    if gpu_target.missing():
        pytest.skip(f"only with the extra gpu-plan: {gpu_target.missing()}")
    monkeypatch.setattr(jax.config, "jax_platforms", "cpu")
    where = gpu_target.sharding(TARGETS["sm_90"])
    side = jax.ShapeDtypeStruct((256, 256), np.float32)
    found = gpu_target.compile_for(where, lambda a, b: jnp.sin(a @ b), (side, side))
    assert found.reading.launches >= 1
    assert found.peak_bytes >= 3 * 256 * 256 * 4
