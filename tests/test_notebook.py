"""The notebook runs from top to bottom, and is kept without outputs."""

import os
from pathlib import Path

import numpy as np
import pytest
import trimesh

import eg3d_jax
import inversion

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "head.ipynb"
nbformat = pytest.importorskip("nbformat", reason="of the extra dev")


def test_it_is_short_valid_and_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 15
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert str(ROOT) not in NOTEBOOK.read_text()


@pytest.mark.compiled_in_full  # it renders more than it compiles
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="of the extra dev")
    for name in ("ipykernel", "ipywidgets"):
        pytest.importorskip(name, reason="of the extra dev")
    monkeypatch.setenv("EG3D_JAX_NOTEBOOK_STEPS", "2")
    monkeypatch.setenv("EG3D_JAX_NOTEBOOK_OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in shown if output.output_type == "error"]
    data = [output.data for output in shown if "data" in output]
    assert sum("image/png" in one for one in data) >= 5
    widgets = [one for one in data if "application/vnd.jupyter.widget-view+json" in one]
    assert len(widgets) == 1  # the slider
    said = "".join(output.text for output in shown if output.output_type == "stream")
    assert "closed: True" in said
    if folder := os.environ.get("EG3D_JAX_KEEP_NOTEBOOK"):
        nbformat.write(notebook, Path(folder) / "head.ipynb")

    head = inversion.load(tmp_path / "out" / "result")
    weights = eg3d_jax.load(tmp_path / "out" / "head.safetensors")
    assert weights.origin.metadata["fingerprint"] == head.metadata["fingerprint"]
    assert head.latents.w_plus.shape[0] == 1
    assert trimesh.load(tmp_path / "out" / "head.glb", force="mesh").is_watertight
    assert np.isfinite(head.latents.w_plus).all()
