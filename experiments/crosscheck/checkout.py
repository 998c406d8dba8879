"""Run the user's checkout of NVIDIA's code on the inputs, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from eg3d_jax.errors import InputError
from experiments.crosscheck import torch_side
from experiments.crosscheck.comparison import Side
from experiments.crosscheck.inputs import Arrays

_TAIL = 4  # last lines of a failed process that are shown
_FIND = "import importlib.util as u, sys; sys.exit(3 * any(u.find_spec(n) is None for n in {}))"
_NEEDED = ("torch", "numpy")


def check(eg3d: Path, python: Path) -> None:
    """Refuse paths and options that cannot run, without importing torch.

    Args:
      eg3d: the folder that holds `legacy.py`.
      python: the interpreter of their environment.

    Raises:
      InputError: if there is no such file, or the interpreter lacks torch or NumPy.
    """
    if not (eg3d / "legacy.py").is_file():
        raise InputError(
            f"{eg3d} has no legacy.py; name the folder eg3d/ of a checkout of NVIDIA's EG3D"
        )
    try:
        command = [python, "-c", _FIND.format(_NEEDED)]
        status = subprocess.run(command, capture_output=True, check=False).returncode
    except OSError as error:
        raise InputError(f"--python {python} cannot be run ({error.strerror})") from None
    if status == 3:
        raise InputError(
            f"{python} has no torch or no NumPy; name the Python of an environment that has both "
            "with --python, or install the extra 'torch'"
        )
    if status:
        raise InputError(f"--python {python} is no Python: it ended with status {status}")


def run(pickle: Path, eg3d: Path, inputs: Arrays, *, python: Path, device: str) -> Side:
    """Compute all stages by NVIDIA's code. This executes the pickle.

    Args:
      pickle: the checkpoint.
      eg3d: their checkout.
      inputs: from `make_inputs`.
      python: the interpreter of their environment.
      device: 'cpu', 'cuda' or 'auto'.

    Raises:
      InputError: with the last lines that their code printed, if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(given, allow_pickle=False, **inputs)
        script = Path(torch_side.__file__).absolute()
        done = subprocess.run(
            [_program(python), script, pickle.absolute(), given, found, device],
            cwd=eg3d,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not found.exists():
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip(" ^~")]
            tail = " / ".join(lines[-_TAIL:]) or "(it printed nothing)"
            raise InputError(f"the code in {eg3d} failed with status {done.returncode}: {tail}")
        with np.load(found, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != "note"}
            return Side(arrays=arrays, **json.loads(str(file["note"])))


def _program(python: Path) -> Path:
    """Make a program's path absolute; a bare name is looked up as before."""
    return python.absolute() if python.exists() else python
