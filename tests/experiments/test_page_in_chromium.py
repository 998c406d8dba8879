"""The page of a head in Chromium: opened from a file, without a network, turned by hand."""

import base64
import dataclasses
import json
import math
import os
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("websockets", reason="the browser is driven by web sockets")

from browser import browse, find_browser, wait_until
from splat_sphere import cameras, renders

import eg3d_jax
from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.config import RenderConfig, tiny
from experiments.page.document import Scene, page
from inversion.latents import repeat_latents
from inversion.result import render_views
from inversion.splats.fit import SplatSettings, fit_head, render_gaussians
from inversion.splats.start import surface_gaussians
from inversion.units import FFHQ_METRES

pytestmark = pytest.mark.slow

CONFIG = dataclasses.replace(tiny(), render=RenderConfig(white_background=True))
SCENE = Scene(title="A sphere", caption="Drag to turn.", note="none", max_yaw=1.2, max_pitch=0.4)
SIDE = 240  # pixels of the browser's window


@pytest.fixture(scope="module")
def gaussians():
    """A sphere whose colours differ in all directions, before any fit."""
    views = cameras(np.radians(np.arange(12) * 60.0), np.radians(np.repeat([-40.0, 40.0], 6)))
    return surface_gaussians(renders(views, 48), views, count=3000, degree=0)


@contextmanager
def shown_page(text, folder, side):
    """A page in Chromium, from a file, on a touch screen; the browser has no way to any network."""
    program = find_browser()
    if program is None:
        pytest.skip("needs Chromium")
    (folder / "head.html").write_text(text, encoding="utf-8")
    with browse(program, folder / "profile", (folder / "head.html").as_uri()) as shown:
        shown.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
        resize(shown, side, side)
        wait_until(lambda: (state(shown) or {}).get("ordered"), 60)
        shown.evaluate("document.querySelectorAll('p').forEach(p => p.style.display = 'none')")
        yield shown


def resize(shown, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    shown.call("Emulation.setDeviceMetricsOverride", **size)


@pytest.fixture(scope="module")
def opened(gaussians, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with shown_page(page(gaussians, CONFIG, SCENE), folder, SIDE) as shown:
        yield shown


def state(shown) -> dict | None:
    return json.loads(shown.evaluate("JSON.stringify(window.head ? head.state() : null)") or "null")


def at_rest(shown, yaw=None, pitch=None):
    """Wait until the camera has arrived; its state."""

    def arrived():
        first, second = state(shown), state(shown)
        near = yaw is None or max(abs(first["yaw"] - yaw), abs(first["pitch"] - pitch)) < 1e-3
        return near and abs(first["yaw"] - second["yaw"]) < 1e-4 and second

    return wait_until(arrived, 60)


@pytest.mark.slow
def test_chromium_shows_what_our_rasteriser_does(opened, gaussians):
    """From the front first; seen from three sides, by another program of the same equations."""
    assert at_rest(opened)["yaw"] == 0
    for yaw, pitch in ((0.0, 0.0), (0.8, 0.3), (-1.0, -0.2)):
        opened.evaluate(f"head.look({yaw}, {pitch})")
        at_rest(opened, yaw, pitch)
        opened.evaluate("new Promise(done => setTimeout(done, 500))")
        camera = yaw_pitch_camera(jnp.array([yaw]), pitch, focal=CONFIG.focal)
        wanted = render_gaussians(gaussians, camera, SIDE, white=True)[0]
        difference = settled(opened, wanted)
        # The viewer cuts Gaussians off at exp(-4) and blurs by 0.3 pixels; grey levels of 255.
        assert difference < 3, (yaw, difference)
    assert opened.loaded() == []


def settled(shown, wanted) -> float:
    """Mean difference of the page from a picture, once the worker has put all into its order."""

    def near():
        picture = shown.screenshot()[: len(wanted), : len(wanted)] / 255
        found.append(float(np.abs(picture - wanted).mean() * 255))
        return found[-1] < 3 or len(found) > 20

    found: list[float] = []
    wait_until(near, 60)
    return found[-1]


def test_a_window_that_changes_its_size_shows_what_a_new_one_does(opened, gaussians):
    """And fades out where an upright one sees below what was fitted."""
    camera = yaw_pitch_camera(jnp.array([0.0]), 0.0, focal=CONFIG.focal)
    opened.evaluate("head.look(0, 0)")
    at_rest(opened, 0, 0)
    fading = "document.querySelector('canvas').style.maskImage"
    try:
        resize(opened, 2 * SIDE, 2 * SIDE)
        assert settled(opened, render_gaussians(gaussians, camera, 2 * SIDE, white=True)[0]) < 3
        assert opened.evaluate(fading) == "none"
        resize(opened, SIDE, 2 * SIDE)
        wait_until(lambda: f"{1.5 * SIDE:g}px" in opened.evaluate(fading), 60)
    finally:
        resize(opened, SIDE, SIDE)
    wait_until(lambda: opened.evaluate(fading) == "none", 60)


def test_a_finger_turns_the_head_and_two_come_nearer_within_limits(opened):
    opened.evaluate("head.look(0, 0)")
    before = at_rest(opened, 0, 0)

    def touch(kind, *points):
        touched = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        opened.call("Input.dispatchTouchEvent", type=kind, touchPoints=touched)

    touch("touchStart", (120, 120))
    for x in (130, 140, 150, 160):
        touch("touchMove", (x, 125))
    touch("touchEnd")
    # Three radians across the window; to the right, so that the camera goes to the left.
    turned = at_rest(opened, -40 * 3 / SIDE, 5 * 3 / SIDE)
    assert turned["distance"] == before["distance"]
    touch("touchStart", (100, 120), (140, 120))
    for wider in (10, 20, 30):
        touch("touchMove", (100 - wider, 120), (140 + wider, 120))
    touch("touchEnd")
    wait_until(lambda: state(opened)["distance"] < 0.6 * before["distance"], 60)
    opened.evaluate("head.look(9, 9, 1e9)")
    limits = at_rest(opened, 1.2 + math.radians(5), 0.4 + math.radians(5))
    wait_until(lambda: state(opened)["distance"] > 1.7 * before["distance"], 60)
    assert limits["yaw"] < 1.3


def test_the_viewer_reads_a_ply_as_we_write_it(opened, gaussians, tmp_path):
    """gsplat.js' own reader of .ply, of which the page's viewer is a part."""
    content = base64.b64encode(gaussians.save(tmp_path / "a.ply").read_bytes()).decode()
    opened.evaluate(
        f"window.ply = Uint8Array.from(atob('{content}'), c => c.charCodeAt(0)).buffer; 0"
    )
    opened.evaluate(
        "window.read = head.viewer.PLYLoader.LoadFromArrayBuffer(ply, new head.viewer.Scene()).data"
    )

    def array(name):
        return np.array(json.loads(opened.evaluate(f"JSON.stringify(Array.from(read.{name}))")))

    centres = np.asarray(gaussians.centres) * FFHQ_METRES * [1, -1, -1]
    np.testing.assert_allclose(array("positions").reshape(-1, 3), centres, atol=1e-6)
    scales = np.exp(np.asarray(gaussians.log_scales)) * FFHQ_METRES
    np.testing.assert_allclose(array("scales").reshape(-1, 3), scales, rtol=1e-4)
    colours = array("colors").reshape(-1, 4)
    opacity = 255 / (1 + np.exp(-np.asarray(gaussians.opacity_logits)))
    np.testing.assert_allclose(colours[:, 3], opacity, atol=1.01)
    red = (np.asarray(gaussians.harmonics)[:, 0, 0] * 0.2820948 + 0.5) * 255
    np.testing.assert_allclose(colours[:, 0], np.clip(red, 0, 255), atol=1.01)


@pytest.mark.compiled_in_full
@pytest.mark.skipif(
    not os.environ.get("EG3D_JAX_LONG_TESTS"), reason="minutes; set EG3D_JAX_LONG_TESTS=1"
)
def test_chromium_shows_what_the_generator_does(tmp_path):
    """A head of the embedded generator, from sides that its splat was not fitted to."""
    generator = eg3d_jax.load_embedded()
    ws = generator.map_to_ws(jax.random.normal(jax.random.key(0), (generator.config.z_dim,)))
    latents = repeat_latents(ws, np.zeros(1))
    fitted = fit_head(generator, latents, SplatSettings(steps=600))
    side = 3 * generator.config.image_side
    with shown_page(page(fitted, generator.config, SCENE), tmp_path, side) as shown:
        for yaw, pitch in ((0.0, 0.0), (0.7, 0.15), (-1.0, -0.1)):
            camera = yaw_pitch_camera(jnp.array([yaw]), pitch)
            wanted = (np.clip(render_views(generator, latents, camera).image[0], -1, 1) + 1) / 2
            shown.evaluate(f"head.look({yaw}, {pitch})")
            at_rest(shown, yaw, pitch)

            def near(wanted=wanted):
                picture = shown.screenshot()[:side, :side] / 255
                means = picture.reshape(side // 3, 3, side // 3, 3, 3).mean((1, 3))
                return -10 * np.log10(np.mean((means - wanted) ** 2)) > 28  # dB

            wait_until(near, 60)
