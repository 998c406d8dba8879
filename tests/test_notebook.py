"""The notebook runs from top to bottom, and is kept without outputs."""

import json
import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import trimesh
from drawn_weights import VISIBLE, drawn_generator

import eg3d_jax
import inversion

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "head.ipynb"


def test_it_is_short_valid_and_kept_without_outputs():
    nbformat = pytest.importorskip("nbformat", reason="of the extra notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 15
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert str(ROOT) not in NOTEBOOK.read_text()


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    """In this process: a kernel would compile all of it anew, and now and then never answers.

    With the smallest generator whose pictures LPIPS can see; the long tests take the embedded one.
    """
    if not os.environ.get("EG3D_JAX_LONG_TESTS"):
        small = drawn_generator(VISIBLE)
        bias = small.decoder.output.bias
        bias[...] = bias[...].at[0].add(10.0)  # so that there is a surface
        eg3d_jax.save(tmp_path / "small", small, license="of the weights")
        monkeypatch.setenv("EG3D_JAX_NOTEBOOK_GENERATOR", str(tmp_path / "small"))
    widgets = pytest.importorskip("ipywidgets", reason="of the extra notebook")
    monkeypatch.setenv("EG3D_JAX_NOTEBOOK_STEPS", "2")
    monkeypatch.setenv("EG3D_JAX_NOTEBOOK_OUTPUT", str(tmp_path / "out"))
    shown, sliders = [], []

    def draw():
        shown.append(plt.gcf())
        shown[-1].canvas.draw()
        plt.close("all")

    def interact(**limits):
        def shown_once(function):
            sliders.append(widgets.interactive(function, **limits))
            sliders[-1].update()
            return function

        return shown_once

    monkeypatch.setattr(plt, "show", draw)
    monkeypatch.setattr(widgets, "interact", interact)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    with mpl.rc_context({"backend": "Agg"}):
        names = {"__name__": "__main__"}
        for cell in cells:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    assert len(shown) >= 5
    (slider,) = sliders
    assert [child.value for child in slider.children[:2]] == [0, 5]
    assert "closed: True" in capsys.readouterr().out

    head = inversion.load(tmp_path / "out" / "result")
    weights = eg3d_jax.load(tmp_path / "out" / "head.safetensors")
    assert weights.origin.metadata["fingerprint"] == head.metadata["fingerprint"]
    assert head.latents.w_plus.shape[0] == 1
    assert trimesh.load(tmp_path / "out" / "head.glb", force="mesh").is_watertight
    assert np.isfinite(head.latents.w_plus).all()
