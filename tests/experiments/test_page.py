"""`eg3d-jax page`: one file that asks for no other, linked from the report, and its mistakes."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from splat_sphere import cameras, renders

import eg3d_jax
from eg3d_jax.config import RenderConfig, tiny
from eg3d_jax.errors import InputError
from experiments.page.document import Scene, as_constant, page
from experiments.page.main import Args, main
from inversion.splats.start import surface_gaussians

CONFIG = dataclasses.replace(tiny(), render=RenderConfig(white_background=True))
SCENE = Scene(title="A <sphere>", caption="Drag & turn.", note="none", max_yaw=1.2, max_pitch=0.4)


@pytest.fixture(scope="module")
def gaussians():
    """A sphere whose colours differ in all directions, before any fit."""
    views = cameras(np.radians(np.arange(12) * 60.0), np.radians(np.repeat([-40.0, 40.0], 6)))
    return surface_gaussians(renders(views, 48), views, count=3000, degree=0)


@pytest.fixture(scope="module")
def text(gaussians):
    return page(gaussians, CONFIG, SCENE)


def test_the_page_asks_for_nothing_else(text):
    body = re.sub(r'<script type="application/octet-stream".*?</script>', "", text, flags=re.DOTALL)
    assert not re.findall(r"<link|<img|<iframe|\bsrc=|@import|url\(", body)
    assert len(re.findall("<script", text)) == len(re.findall("</script>", text)) == 3
    assert "A &lt;sphere&gt;" in text
    assert "Drag &amp; turn." in text
    assert "Permission is hereby granted, free of charge" in text  # the viewer's licence
    assert "{{" not in text.split("<script")[0]


def test_a_module_becomes_a_constant():
    module = "class a {}\nconst b = 1;\nexport {\n  a as Camera,\n  b as Scene\n};\n//# map\n"
    assert as_constant(module, "S") == (
        "class a {}\nconst b = 1;\nconst S = { Camera: a, Scene: b };"
    )


def test_the_page_of_a_run_is_linked_from_its_report(visible_inputs, gaussians, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(visible_inputs / "run", run)
    gaussians.save(tmp_path / "a.ply")
    (run / "report.html").write_text("<h1>of it</h1><section>Numbers</section>")
    main(Args(run=run, splat=tmp_path / "a.ply"))
    assert "of the weights" in (run / "head.html").read_text()
    main(Args(run=run, splat=tmp_path / "a.ply", overwrite=True))
    assert (run / "report.html").read_text().count('<a href="head.html">') == 1
    with pytest.raises(InputError, match="--overwrite"):
        main(Args(run=run))


def test_a_splat_of_another_head_is_refused(visible_inputs, gaussians, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(visible_inputs / "run", run)
    (run / "splat").mkdir()
    gaussians.save(run / "splat" / "splat.ply")
    fingerprint = eg3d_jax.load(run / "result" / "generator").origin.metadata["fingerprint"]
    for known, refused in ((fingerprint, False), ("another", True)):
        numbers = {
            "settings": {"max_yaw": 33.0, "max_pitch": 10.0},
            "generator": {"fingerprint": known},
        }
        (run / "splat" / "splat.json").write_text(json.dumps(numbers))
        if refused:
            with pytest.raises(InputError, match="made of another head"):
                main(Args(run=run, overwrite=True))
        else:
            main(Args(run=run))
    shown = json.loads(re.search(r'id="scene">(.*?)</script>', (run / "head.html").read_text())[1])
    assert math.isclose(shown["maxYaw"], math.radians(38))  # five degrees beyond the fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": Path("a.txt")}, "must end in .html"),
        ({"splat": Path("nowhere.ply")}, "no complete splat"),
        ({"splat": Path("splat.glb")}, "read from .ply or .spz"),
    ],
)
def test_mistakes_are_named(visible_inputs, tmp_path, changes, message):
    inside = {name: tmp_path / path for name, path in changes.items()}
    args = {"output": tmp_path / "a.html", **inside}
    with pytest.raises(InputError, match=message):
        main(Args(run=visible_inputs / "run", **args))
    assert not list(tmp_path.iterdir())
