"""What XLA made of a program for a GPU: launches, convolutions, modelled time, atomics.

Pure functions of the text of a compiled program (optimised HLO with the costs that XLA's model
notes beside each instruction) and of its PTX. Nothing here needs a GPU, or a plug-in for one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Instructions for which nothing runs on the GPU.
_SILENT = frozenset({
    "parameter", "constant", "bitcast", "tuple", "get-tuple-element", "while", "call",
    "conditional", "after-all", "partition-id", "replica-id", "iota-placeholder",
    "async-start", "async-done", "copy-done", "opt-barrier",
})  # fmt: skip
_CONVOLUTION = "__cudnn$conv"
_CUDNN = "__cudnn$"
_GEMM = ("__cublas$", "__triton_gemm", "__triton_nested_gemm_fusion")
_NAME = r"%?([\w.\-]+)"
_HEAD = re.compile(rf"^(ENTRY )?{_NAME} \(.*\) -> .* \{{$")
_INSTRUCTION = re.compile(rf"^\s+(?:ROOT )?{_NAME} = (.*)$")
_SHAPE = re.compile(r"([a-z]+[0-9]*)\[([0-9,]*)\]")
_ATOMIC = re.compile(r"\b(?:atom|red)\.[\w.:]+")


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction of a compiled program.

    Attributes:
      name: within its computation.
      opcode: of HLO.
      shapes: of its result, element type and sides; several for a tuple.
      operands: names of its arguments.
      text: the whole line after the name.
    """

    name: str
    opcode: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    operands: tuple[str, ...]
    text: str

    @property
    def target(self) -> str:
        """What a custom call or a custom fusion calls; empty for any other."""
        found = re.search(r'custom_call_target="([^"]*)"', self.text)
        found = found or re.search(r'"kind":"(__[\w$]+)"', self.text)
        return found.group(1) if found else ""

    @property
    def microseconds(self) -> float:
        """Time of XLA's model; 0 where it has none, as for convolutions."""
        found = re.search(r'"exec_time_us":([0-9.eE+\-]+)', self.text)
        return float(found.group(1)) if found else 0.0

    def refers_to(self, name: str) -> str | None:
        """A computation that the instruction names, as its `body`."""
        found = re.search(rf"\b{name}={_NAME}", self.text)
        return found.group(1) if found else None

    @property
    def trips(self) -> int:
        """How often a loop runs, if XLA knows; else once is counted."""
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', self.text)
        return int(found.group(1)) if found else 1


@dataclass(frozen=True)
class _Computation:
    instructions: Mapping[str, Instruction]
    entry: bool = False


@dataclass(kw_only=True)
class Reading:
    """What one program is made of; all times are modelled.

    Attributes:
      launches: kernels and library calls of one call of the program.
      convolutions: calls of cuDNN by kind and layout, as 'convForward b01f_o01i->b01f'.
      unlibrary_convolutions: convolutions that cuDNN does not compute.
      convolution_flop: operations of all convolutions.
      half_flop: of those in bfloat16 among them.
      kernel_microseconds: of everything but convolutions, by XLA's cost model.
      by_kind: the same by kind of kernel, the name of its fusion without a number.
      precision: of the operands of convolutions and matrix products, how many of each.
      element_types: that occur, 'f32' and so on.
    """

    launches: int = 0
    convolutions: Counter[str] = field(default_factory=Counter)
    unlibrary_convolutions: int = 0
    convolution_flop: float = 0.0
    half_flop: float = 0.0
    kernel_microseconds: float = 0.0
    by_kind: Counter[str] = field(default_factory=Counter)
    precision: Counter[str] = field(default_factory=Counter)
    element_types: set[str] = field(default_factory=set)

    def milliseconds(self, flops: float, half: float) -> float:
        """Modelled time with convolutions at so many operations a second; `half` in bfloat16."""
        convolutions = (self.convolution_flop - self.half_flop) / flops + self.half_flop / half
        return self.kernel_microseconds / 1e3 + 1e3 * convolutions


def read_program(text: str) -> Reading:
    """Read a compiled program.

    Args:
      text: `compiled.as_text()`, compiled with `xla_gpu_collect_cost_model_stats`.

    Returns:
      Sums over the entry computation; bodies of loops count as often as they run.

    Raises:
      ValueError: if the text has no entry computation.
    """
    computations = _parse(text)
    entry = next((name for name, c in computations.items() if c.entry), None)
    if entry is None:
        raise ValueError("the text has no ENTRY computation; give optimised HLO")
    found = Reading()
    _add(found, computations, entry, 1)
    found.element_types = {
        kind
        for computation in computations.values()
        for one in computation.instructions.values()
        for kind, _ in one.shapes
    }
    return found


def read_atomics(ptx: Iterable[str]) -> Counter[str]:
    """Atomic instructions by kind in the PTX of a program's kernels, as 'atom.global.add.f32'."""
    return Counter(kind for text in ptx for kind in _ATOMIC.findall(text))


def compares_and_swaps(atomics: Mapping[str, int]) -> int:
    """How many of the atomic instructions compare and swap, which is slow where many meet."""
    return sum(count for kind, count in atomics.items() if ".cas" in kind)


def convolution_flop(instruction: Instruction, operands: Mapping[str, Instruction]) -> float:
    """Operations of a cuDNN call: 2 x outputs x taps x input channels of the forward convolution.

    A gradient takes as many as the convolution that it is the gradient of.
    """
    labels = re.search(r"dim_labels=\w+_(\w+)->\w+", instruction.text)
    if labels is None:
        return 0.0
    first, second = (operands[name].shapes[0][1] for name in instruction.operands[:2])
    result = instruction.shapes[0][1]
    if "BackwardFilter" in instruction.target:
        kernel, output = result, second
    elif "BackwardInput" in instruction.target:
        kernel, output = second, first
    else:
        kernel, output = second, result
    return 2.0 * math.prod(output) * math.prod(kernel) / kernel[labels.group(1).index("o")]


def _add(found: Reading, computations: Mapping[str, _Computation], name: str, times: int) -> None:
    """Add a computation that runs so many times."""
    instructions = computations[name].instructions
    for one in instructions.values():
        if one.opcode in ("while", "call", "async-start"):
            inner = one.refers_to("body") or one.refers_to("to_apply") or one.refers_to("calls")
            if inner is not None and inner in computations:
                _add(found, computations, inner, times * one.trips)
        if one.opcode in _SILENT or one.target in ("Sharding", "annotate_device_placement"):
            continue
        found.launches += times
        if one.opcode == "convolution":
            found.unlibrary_convolutions += times
        if one.target.startswith(_CONVOLUTION):
            layout = re.search(r"dim_labels=(\S+?),?\s", one.text)
            kind = one.target.removeprefix(_CUDNN)
            found.convolutions[f"{kind} {layout.group(1) if layout else '?'}"] += times
            flop = times * convolution_flop(one, instructions)
            found.convolution_flop += flop
            found.half_flop += flop if one.shapes[0][0] == "bf16" else 0.0
            found.precision[f"convolution {_precision(one)}"] += times
            continue
        if one.target.startswith(_GEMM):
            found.precision[f"product {_precision(one)}"] += times
        found.kernel_microseconds += times * one.microseconds
        found.by_kind[_kind(one)] += round(1e3 * times * one.microseconds)


def _kind(one: Instruction) -> str:
    """The kind of kernel: the target of a library's call, else its fusion's name, no number."""
    return one.target or re.sub(r"[.\d]+$", "", one.name)


def _precision(one: Instruction) -> str:
    found = re.search(r"operand_precision=\{([a-z0-9]+)", one.text)
    found = found or re.search(r'"operand_precision":\["([A-Z0-9]+)"', one.text)
    return found.group(1).lower() if found else "default"


def _parse(text: str) -> dict[str, _Computation]:
    computations: dict[str, _Computation] = {}
    current: dict[str, Instruction] | None = None
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            current = {}
            computations[head.group(2)] = _Computation(current, entry=bool(head.group(1)))
        elif line.startswith("}"):
            current = None
        elif current is not None:
            found = _INSTRUCTION.match(line)
            if found:
                current[found.group(1)] = _instruction(*found.groups())
    return computations


def _instruction(name: str, rest: str) -> Instruction:
    result, rest_after = _result_type(rest)
    opcode, _, arguments = rest_after.partition("(")
    inside, _ = _closed(f"({arguments}")
    return Instruction(
        name=name,
        opcode=opcode.strip(),
        shapes=tuple(
            (kind, tuple(int(side) for side in sides.split(",") if side))
            for kind, sides in _SHAPE.findall(result)
        ),
        operands=tuple(re.findall(r"%([\w.\-]+)", inside)),
        text=rest,
    )


def _result_type(rest: str) -> tuple[str, str]:
    """Split 'TYPE opcode(...)', where a tuple's type is in brackets, into type and the rest."""
    if rest.startswith("("):
        return _closed(rest)
    result, _, after = rest.partition(" ")
    return result, after


def _closed(text: str) -> tuple[str, str]:
    """Split text that begins with a bracket behind the one that closes it."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: i + 1], text[i + 1 :].lstrip()
    return text, ""


def as_numbers(found: Reading) -> dict[str, Any]:
    """A reading as plain values; kinds of kernels by falling time."""
    return {
        "launches": found.launches,
        "convolutions": dict(found.convolutions.most_common()),
        "convolutions_not_of_cudnn": found.unlibrary_convolutions,
        "convolution_tflop": round(found.convolution_flop / 1e12, 4),
        "convolution_tflop_in_bfloat16": round(found.half_flop / 1e12, 4),
        "kernels_modelled_ms": round(found.kernel_microseconds / 1e3, 3),
        "kernels_modelled_ms_by_kind": {
            kind: round(nanoseconds / 1e6, 3) for kind, nanoseconds in found.by_kind.most_common(12)
        },
        "precision": dict(found.precision.most_common()),
        "element_types": sorted(found.element_types),
    }
