"""Write the files of this folder with the torch at hand: `python make.py SOURCE FOLDER`.

SOURCE is a checkpoint of `checkpoint_writer.py`. It is loaded by torch with classes of the same
names, which do nothing, and pickled again, so that every byte of tensors and modules is torch's
own. Runs on Python 3.8 and newer, without the project.
"""

import collections
import gzip
import io
import pickle
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch

NAME = torch.__version__.split("+")[0]


def module(name):
    if name not in sys.modules:
        parent, _, last = name.rpartition(".")
        sys.modules[name] = types.ModuleType(name)
        if parent:
            setattr(module(parent), last, sys.modules[name])
    return sys.modules[name]


def inert_class(module_name, name, base=torch.nn.Module):
    owner = module(module_name)
    if not hasattr(owner, name):
        setattr(owner, name, type(name, (base,), {"__module__": module_name}))
    return getattr(owner, name)


class Persistent(torch.nn.Module):
    """A module that pickles as a call with its class's name and its attributes."""

    def __reduce__(self):
        meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise RuntimeError('the source text in the file was executed')",
            "class_name": type(self).__name__,
            "state": self.__dict__,
        }
        return reconstruct, (meta,)


def reconstruct(meta):
    kind = type(meta["class_name"], (Persistent,), {})
    return filled(kind(), meta["state"])


reconstruct.__module__ = "torch_utils.persistence"
reconstruct.__name__ = reconstruct.__qualname__ = "_reconstruct_persistent_obj"
module("torch_utils.persistence")._reconstruct_persistent_obj = reconstruct
EasyDict = inert_class("dnnlib.util", "EasyDict", dict)


def filled(instance, state):
    groups = ("_parameters", "_buffers", "_modules")
    for name, value in state.items():
        if name not in groups:
            instance.__dict__[name] = value
    for name, tensor in state.get("_parameters", {}).items():
        instance.register_parameter(name, torch.nn.Parameter(tensor))
    for name, tensor in state.get("_buffers", {}).items():
        instance.register_buffer(name, tensor)
    for name, child in state.get("_modules", {}).items():
        instance.add_module(name, child)
    return instance


class Unpickler(pickle.Unpickler):
    def find_class(self, module_name, name):
        if module_name.startswith("numpy._core") and not hasattr(np, "_core"):
            module_name = module_name.replace("_core", "core")  # NumPy 1
        if not module_name.startswith("training."):
            return super().find_class(module_name, name)
        kind = inert_class(module_name, name)
        kind.__setstate__ = lambda self, state: filled(
            torch.nn.Module.__init__(self) or self, state
        )
        return kind


def load(source):
    with gzip.open(source) as file:
        generator = Unpickler(file).load()["G_ema"]
    for kind in (type(part) for part in generator.modules()):
        kind.__dict__.get("__setstate__") and delattr(kind, "__setstate__")
    return generator


def set_data(parts, name, change):
    """Change a parameter's or buffer's numbers or their layout, by its dotted name."""
    owner, _, leaf = name.rpartition(".")
    tensor = getattr(parts[owner], leaf)
    tensor.data = change(tensor.data)


def changed(generator):
    """The same numbers in other layouts and types, and what training leaves behind."""
    parts = dict(generator.named_modules())
    kernel = "backbone.synthesis.b4.conv1.weight"
    set_data(parts, kernel, lambda x: x.contiguous(memory_format=torch.channels_last))
    set_data(parts, "decoder.net.0.weight", lambda x: x.half())
    set_data(parts, "decoder.net.2.weight", lambda x: x.bfloat16())
    set_data(parts, "backbone.mapping.w_avg", lambda x: x.double())
    # Two tensors in one storage, as flattened gradients leave them.
    bias = parts["superresolution.block0.conv0"].bias
    other = parts["superresolution.block0.conv1"].bias
    flat = torch.cat([bias.data, other.data])
    bias.data, other.data = flat[: len(bias)], flat[len(bias) :]
    # One tensor under two names.
    parts["superresolution.block1"].resample_filter = parts[
        "superresolution.block0"
    ].resample_filter
    generator.register_buffer("dataset_label_std", torch.full([25], 0.5))
    parts["decoder.net.2"].bias.note = "an attribute"
    return generator


def on_cuda(function):
    """Write what `function` writes as if its tensors were on a GPU."""
    real = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: "cuda:0"
    try:
        return function()
    finally:
        torch.serialization.location_tag = real


def checkpoint(generator, protocol=None):
    other = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LeakyReLU())
    data = {
        "G": None,
        "D": other,
        "G_ema": generator,
        "training_set_kwargs": EasyDict(path="faces.zip", use_labels=True, max_size=None),
        "augment_pipe": None,
    }
    return pickle.dumps(data, protocol or pickle.DEFAULT_PROTOCOL)


def tensors():
    """Tensors and other values for `torch.save`."""
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4, 1)
    values = collections.OrderedDict(
        base=base,
        view=base[1:, ::2],
        turned=base.transpose(0, 2),
        channels_last=base.contiguous(memory_format=torch.channels_last),
        half=base.half(),
        brain=base.bfloat16(),
        long=base.long(),
        flag=base > 3,
        scalar=torch.tensor(3.5),
        empty=torch.zeros(0, 4),
        parameter=torch.nn.Parameter(torch.ones(2)),
        number=0.25,
        inner={"list": torch.ones(3)},
        array=np.arange(3.0),
    )
    if hasattr(torch, "uint16"):
        values["uint16"] = torch.tensor([1, 65535], dtype=torch.int32).to(torch.uint16)
    return values


def wrapped(generator):
    """The generator as wrappers of this torch hold it, where they can be pickled."""
    yield "data_parallel", torch.nn.DataParallel(generator)
    try:
        averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(1, 1))
        pickle.dumps(averaged)
        averaged.module = generator
        yield "averaged", averaged
    except (AttributeError, pickle.PicklingError):
        pass
    try:
        from torch._inductor import config

        for part in (config.cutlass, config.cuda, config.xpu):
            part.cutlass_dir = "/"  # no folder of a machine
        compiled = torch.compile(generator)
        pickle.dumps(compiled)
        yield "compiled", compiled
    except (AttributeError, ImportError, pickle.PicklingError):
        pass
    if torch.distributed.is_available():
        torch.distributed.init_process_group(
            "gloo", init_method="file://" + tempfile.mktemp(), rank=0, world_size=1
        )
        yield "distributed", torch.nn.parallel.DistributedDataParallel(generator)


def main(source, folder):
    def write(name, data):
        path = Path(folder) / f"{NAME}_{name}.gz"
        path.write_bytes(gzip.compress(data, 9, mtime=0))

    write("plain.pkl", checkpoint(load(source)))
    write("changed.pkl", on_cuda(lambda: checkpoint(changed(load(source)))))
    if NAME in ("1.7.1", "2.13.0"):  # the oldest and the newest; Python 3.7 pickles by protocol 3
        write("protocol2.pkl", checkpoint(load(source), 2))
        write("protocol3.pkl", checkpoint(load(source), 3))
    for name, model in wrapped(load(source)):
        write(name + ".pkl", checkpoint(model))
    for name, zipped in (("zip", True), ("legacy", False)):
        out = io.BytesIO()
        torch.save(tensors(), out, _use_new_zipfile_serialization=zipped)
        write(name + ".pt", out.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
