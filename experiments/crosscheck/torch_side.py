"""NVIDIA's side of the comparison: a script that runs in their checkout, in a process of its own.

`python torch_side.py PICKLE INPUTS.npz OUTPUTS.npz DEVICE`, started by `checkout.run`. Loading
PICKLE executes the code in it. The script needs torch, NumPy and Python 3.8, and nothing of ours,
so that it runs in the environment that their code was made for (interface: spec eg3d 10).
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from pathlib import Path


def peak_memory():
    """Largest memory of this process so far, bytes."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource  # not on Windows; on Linux it may count the parent process too

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def fixed_draws(torch, draws):
    """Let `torch.rand` and `torch.rand_like` return these arrays, one after another.

    Args:
      torch: the module.
      draws: arrays for the draws to come; their shapes may be others, their sizes not.

    Raises:
      RuntimeError: if more, fewer or other numbers are drawn (spec eg3d 8.7).
    """
    asked = []
    wanted = "EG3D's renderer draws jitter and u, {} numbers".format(
        " and ".join(str(array.size) for array in draws)
    )

    def draw(shape, device):
        asked.append(tuple(shape))
        sizes = [math.prod(s) for s in asked]
        if sizes != [array.size for array in draws[: len(asked)]]:
            raise RuntimeError(f"{wanted}, but this one draws the shapes {asked}")
        return torch.from_numpy(draws[len(asked) - 1]).to(device).reshape(shape)

    def rand(*size, device=None, **_):
        return draw(size if isinstance(size[0], int) else size[0], device)

    def rand_like(tensor, **_):
        return draw(tensor.shape, tensor.device)

    originals = torch.rand, torch.rand_like
    torch.rand, torch.rand_like = rand, rand_like
    try:
        yield
    finally:
        torch.rand, torch.rand_like = originals
    if len(asked) != len(draws):
        raise RuntimeError(f"{wanted}, but this one draws the shapes {asked} only")


def load(torch, path, device):
    """Load their generator, in float32 arithmetic; this executes the pickle."""
    import legacy  # of the checkout

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    with Path(path).open("rb") as file:
        generator = legacy.load_network_pkl(file)["G_ema"]
    generator = generator.eval().requires_grad_(False).to(device)
    # 2X and 4X add to their input in place, which is also what they return as image_raw and what
    # autograd needs again (spec eg3d 9). A copy changes no number of the image.
    generator.superresolution.register_forward_pre_hook(
        lambda _, tensors: tuple(tensor.clone() for tensor in tensors)
    )
    return generator


class Stages:
    """Stages of their generator on the inputs, with the seconds of the two costly ones.

    Attributes:
      planes: what the backbone has painted since the list was emptied.
      seconds: of every call, by the name of its stage.
    """

    def __init__(self, torch, generator, inputs, device):
        self.torch, self.generator, self.device = torch, generator, device
        self.planes, self.seconds = [], {"forward": [], "gradient": []}
        generator.backbone.synthesis.register_forward_hook(
            lambda _m, _i, out: self.planes.append(out)
        )
        self.draws = [inputs["jitter"], inputs["u"]] if inputs["u"].size else [inputs["jitter"]]
        self.side = math.isqrt(inputs["jitter"].shape[1])
        self.z, self.labels, self.condition = (
            torch.from_numpy(inputs[name]).to(device) for name in ("z", "labels", "condition")
        )

    def map_to_ws(self, latent):
        """Map one z to style latents."""
        with self.torch.no_grad():
            return self.generator.mapping(self.z[latent : latent + 1], self.condition[None])

    def forward(self, ws, camera):
        """Render the pictures of one camera."""
        with self.torch.no_grad():
            return self._timed("forward", self._synthesize, ws, camera)

    def gradient(self, ws, camera):
        """Compute the gradient by the style latents of the same loss as `jax_side`."""
        return self._timed("gradient", self._differentiate, ws, camera)

    def _synthesize(self, ws, camera):
        with fixed_draws(self.torch, [array[camera] for array in self.draws]):
            return self.generator.synthesis(
                ws,
                self.labels[camera : camera + 1],
                neural_rendering_resolution=self.side,
                noise_mode="const",
                force_fp32=True,
            )

    def _differentiate(self, ws, camera):
        ws = ws.clone().requires_grad_(True)
        out = self._synthesize(ws, camera)
        loss = out["image"].square().mean() + out["image_depth"].mean()
        return self.torch.autograd.grad(loss, ws)[0]

    def _timed(self, name, function, *arguments):
        started = time.perf_counter()
        result = function(*arguments)
        if self.device != "cpu":
            self.torch.cuda.synchronize()
        self.seconds[name].append(time.perf_counter() - started)
        return result


def compute(torch, generator, inputs, device):
    """Compute all stages: arrays by name, leading axes latents and cameras, and the seconds."""
    stages = Stages(torch, generator, inputs, device)
    latents, cameras = len(inputs["z"]), len(inputs["labels"])
    found = {name: [] for name in ("ws", "planes", "raw", "depth", "image", "gradient")}
    for latent in range(latents):
        ws = stages.map_to_ws(latent)
        found["ws"].append(ws[0])
        for camera in range(cameras):
            stages.planes.clear()
            out = stages.forward(ws, camera)
            if camera == 0:
                found["planes"].append(stages.planes[0][0])
            for name, key in (("raw", "image_raw"), ("depth", "image_depth"), ("image", "image")):
                found[name].append(out[key][0])
            found["gradient"].append(stages.gradient(ws, camera)[0])
    arrays = {name: torch.stack(values).cpu().numpy() for name, values in found.items()}
    for name in ("raw", "depth", "image", "gradient"):
        arrays[name] = arrays[name].reshape(latents, cameras, *arrays[name].shape[1:])
    return arrays, stages.seconds


def main(pickle, inputs, outputs, device):
    """Compute and write the arrays, with `seconds` and `memory` as JSON."""
    sys.path[0] = str(Path.cwd())  # the checkout, instead of the folder of this script
    import numpy
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with numpy.load(inputs) as file:
        given = {name: file[name] for name in file.files}
    arrays, seconds = compute(torch, load(torch, pickle, device), given, device)
    memory = {"host": peak_memory()}
    name = "CPU"
    if device != "cpu":
        memory["device"] = torch.cuda.max_memory_allocated()
        name = torch.cuda.get_device_name()
    note = {"seconds": seconds, "memory": memory, "version": torch.__version__, "device": name}
    arrays["note"] = numpy.array(json.dumps(note))
    numpy.savez(outputs, **arrays)  # pyright: ignore[reportArgumentType] (no array's name is an option)


if __name__ == "__main__":
    main(*sys.argv[1:])
