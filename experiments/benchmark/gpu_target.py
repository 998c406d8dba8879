"""Compile for a GPU on a machine without one.

JAX's plug-in for CUDA compiles for a device that a text describes; only `ptxas` is needed beside it
(extra `gpu-plan`), no driver, no cuDNN. What is compiled cannot be run here.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.benchmark.gpu_reading import Reading, read_atomics, read_program
from experiments.benchmark.measuring import peak_bytes

_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
DEFAULT_DEVICE = "gpu"
_TIMES = {"xla_gpu_collect_cost_model_stats": True}  # noted beside each instruction
_KERNELS = {"xla_dump_emitter_re": ".*"}  # their PTX is written to a folder


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of GPU, by its published figures.

    Attributes:
      name: of the architecture, as compilers call it.
      device: its name.
      capability: major and minor.
      cores: multiprocessors.
      units: float32 units of each.
      gigahertz: of their clock.
      bandwidth: of the memory, bytes a second.
      memory: bytes.
      cache: second level, bytes.
      shared: fast memory of a multiprocessor, and the part that one block may take, bytes.
      tf32: peak of dense matrix products in TF32, operations a second.
      bf16: the same in bfloat16.
      timed: whether XLA has a model of its times.
    """

    name: str
    device: str
    capability: tuple[int, int]
    cores: int
    units: int
    gigahertz: float
    bandwidth: int
    memory: int
    cache: int
    shared: tuple[int, int]
    tf32: float
    bf16: float
    timed: bool = True


TARGETS = {
    "sm_90": Target(
        name="sm_90", device="H200", capability=(9, 0), cores=132, units=128, gigahertz=1.98,
        bandwidth=4_800_000_000_000, memory=151_397_597_184, cache=52_428_800,
        shared=(233_472, 232_448), tf32=494e12, bf16=989e12,
    ),
    "sm_80": Target(
        name="sm_80", device="A100", capability=(8, 0), cores=108, units=64, gigahertz=1.41,
        bandwidth=2_039_040_000_000, memory=85_100_068_864, cache=41_943_040,
        shared=(167_936, 166_912), tf32=156e12, bf16=312e12, timed=False,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a program became.

    Attributes:
      reading: of the compiled text.
      atomics: instructions of the PTX by kind.
      peak_bytes: planned memory: arguments, results and what lives between them.
      temporary_bytes: of what lives between them alone.
      compile_seconds: to trace and compile, on this machine as busy as it was.
      text: the compiled program.
    """

    reading: Reading
    atomics: Counter[str]
    peak_bytes: int
    temporary_bytes: int
    compile_seconds: float
    text: str


def missing() -> str | None:
    """Why nothing can be compiled for a GPU here; None if it can."""
    if not any(importlib.util.find_spec(name) for name in _PLUGINS):
        return (
            "JAX's plug-in for CUDA is not installed; `pip install 'eg3d-jax[gpu-plan]'`, best in "
            "an environment of its own (1.6 GB)"
        )
    return None


def sharding(target: Target) -> NamedSharding:
    """Where the arrays of a program for a target live: one GPU that is described, not there."""
    from jax.experimental import topologies  # only where the plug-in is

    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=_description(target), topology="1x1x1"
    )
    return NamedSharding(Mesh(np.array(topology.devices), ("device",)), PartitionSpec())


def compile_for(
    where: NamedSharding,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    *,
    carries: bool = False,
    timed: bool = True,
) -> Plan:
    """Compile a function and read what it became.

    Args:
      where: of `sharding`.
      function: traceable by JAX.
      arguments: arrays or their shapes.
      carries: the first argument's buffers hold the first result.
      timed: ask XLA for its modelled times; it fails for a target that it has no model of.
    """

    def placed(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    shapes = jax.tree.map(placed, arguments)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        # The default device decides which forms are traced.
        with jax.default_device(DEFAULT_DEVICE):
            lowered = jax.jit(function, donate_argnums=0 if carries else ()).lower(*shapes)
        options = (_TIMES if timed else {}) | _KERNELS | {"xla_dump_to": folder}
        compiled = lowered.compile(compiler_options=options)
        seconds = time.perf_counter() - started
        kernels = sorted(Path(folder).glob("*.ptx"))
        if not kernels:
            raise RuntimeError("XLA wrote no PTX, so nothing is known of its atomics")
        atomics = read_atomics(path.read_text() for path in kernels)
    text = compiled.as_text() or ""
    memory = compiled.memory_analysis()
    return Plan(
        reading=read_program(text),
        atomics=atomics,
        peak_bytes=peak_bytes(compiled),
        temporary_bytes=0 if memory is None else memory.temp_size_in_bytes,
        compile_seconds=seconds,
        text=text,
    )


def _description(target: Target) -> str:
    """A target as XLA's GpuTargetConfigProto, in text."""
    major, minor = target.capability
    numbers = {
        "threads_per_block_limit": 1024, "threads_per_warp": 32, "shared_memory_per_block": 49152,
        "shared_memory_per_core": target.shared[0],
        "shared_memory_per_block_optin": target.shared[1],
        "threads_per_core_limit": 2048, "core_count": target.cores, "fpus_per_core": target.units,
        "block_dim_limit_x": 2147483647, "block_dim_limit_y": 65535, "block_dim_limit_z": 65535,
        "thread_dim_limit_x": 1024, "thread_dim_limit_y": 1024, "thread_dim_limit_z": 64,
        "registers_per_core_limit": 65536, "registers_per_block_limit": 65536,
        "memory_bandwidth": target.bandwidth, "l2_cache_size": target.cache,
        "device_memory_size": target.memory, "clock_rate_ghz": target.gigahertz,
    }  # fmt: skip
    versions = {"runtime_version": "12.9.0", "compile_time_toolkit_version": "12.9.0",
                "driver_version": "12.9.0", "dnn_version": "9.10.0"}  # fmt: skip
    lines = [
        *(f"{name}: {value}" for name, value in numbers.items()),
        *(f'{name}: "{value}"' for name, value in versions.items()),
        f"cuda_compute_capability {{ major: {major} minor: {minor} }}",
    ]
    return "\n".join([
        "gpu_device_info {", *lines, "}", 'platform_name: "CUDA"',
        "dnn_version_info { major: 9 minor: 10 patch: 0 }",
        f'device_description_str: "{target.device}"',
    ])  # fmt: skip
