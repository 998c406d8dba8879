"""The viewer as a user meets it: its mistakes, its server, and its page in a real browser."""

import collections
import dataclasses
import http.client
import importlib
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("viser")

from browser import browse, find_browser, wait_until
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from eg3d_jax.cameras import from_label
from eg3d_jax.errors import InputError
from experiments.view.head import Head, Look
from experiments.view.main import Args, check, open_viewer
from experiments.view.server import LARGEST_MESSAGE, check_port

ROOT = Path(__file__).parents[3]
# Ctrl-C ends it even if whoever runs the tests ignores that.
_COMMAND = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('experiments.view', run_name='__main__', alter_sys=True)"
)
# Grey levels, in the mean: for two ways to enlarge a picture.
CLOSE = 8.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def args(run, tmp_path_factory):
    return Args(
        run=run,
        frames=run.parent / "frames",
        port=free_port(),
        output=tmp_path_factory.mktemp("exports"),
    )


@pytest.fixture(scope="module")
def server(args, directions):
    """The command in a process of its own, as viser leaves threads and an event loop behind."""
    command = [sys.executable, "-c", _COMMAND, args.run, "--frames", args.frames]
    command += ["--port", args.port, "--output", args.output]
    with subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        try:
            lines = []
            while not lines or "open http" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], "".join(lines)  # it ended
            yield process
        finally:
            process.kill()


def get(port, path, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse()
    finally:
        connection.close()


def test_the_page_is_served_to_its_own_browser_only(server, args):
    page = get(args.port, "/", {})
    assert page.status == 200
    assert "default-src 'self'" in page.getheader("Content-Security-Policy")
    assert get(args.port, "/../__init__.py", {}).status == 404
    assert get(args.port, "/", {"Origin": "https://example.org"}).status == 403


def test_who_sends_too_much_is_disconnected(server, args):
    version = importlib.import_module("viser").__version__
    with connect(
        f"ws://127.0.0.1:{args.port}",
        max_size=None,
        subprotocols=[Subprotocol(f"viser-v{version}")],
    ) as client:
        client.send(bytes(LARGEST_MESSAGE + 1))
        with pytest.raises(ConnectionClosed) as ended:
            # What the page is told meanwhile.
            collections.deque(iter(lambda: client.recv(timeout=60), None), maxlen=0)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == CloseCode.MESSAGE_TOO_BIG


def test_a_taken_port_is_refused_and_not_replaced_by_another(server, args):
    with pytest.raises(InputError, match=f"port {args.port} of .*--port"):
        open_viewer(args)


def test_it_listens_on_this_machine_alone_by_default():
    assert Args().host == "127.0.0.1"


def test_another_address_is_warned_of(capsys):
    check(Args(port=free_port()))
    assert capsys.readouterr().err == ""
    check(Args(host="0.0.0.0", port=free_port()))
    assert "anyone who reaches port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": 0}, "--port 0"),
        ({"port": 70000}, "--port 70000"),
        ({"host": "203.0.113.1"}, "cannot listen"),  # of documentation: nobody's
        ({"mesh_resolution": 4}, "--mesh-resolution 4"),
        ({"moving_side": 9}, "from 1 to 8"),
        ({"seed": 1}, "add --generator"),
        ({"directions": Path("nowhere.npy")}, "cannot read nowhere.npy: there is no such file"),
        ({"run": "nowhere", "frames": None}, "nowhere is no folder"),
        ({"frames": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_mistakes_are_named(args, run, changes, message):
    paths = {key: run.parent / changes[key] for key in ("run", "frames") if changes.get(key)}
    with pytest.raises(InputError, match=message):
        open_viewer(dataclasses.replace(args, **{"port": free_port()} | changes | paths))


def test_without_viser_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install -e '\.\[view\]'"):
        check(Args())


def test_a_free_port_is_found_free():
    check_port("127.0.0.1", free_port())


def test_in_a_browser_without_network_the_head_appears_turns_and_follows_sliders(
    server, args, subjects, directions, tmp_path
):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on the PATH; on Debian: apt install chromium")
    head, views = Head(subjects), from_label(subjects.labels)
    frontal = head.picture(subjects.generator.frontal_camera(), Look(), moving=False)
    of_view = [head.picture(views[i], Look(), moving=False) for i in range(len(views))]
    mean = Look(truncation=0.0)
    mean_head = [head.picture(views[i], mean, moving=False) for i in range(len(views))]

    with browse(program, tmp_path, f"http://127.0.0.1:{args.port}/") as page:
        wait_until(lambda: shows(page, frontal), 60)
        page.drag((200, 160), (140, 160))
        wait_until(lambda: "29° away" not in page.text(), 10)  # as it was from the front
        assert not shows(page, frontal)
        page.click("Go to the nearest")
        nearest = wait_until(lambda: re.search(r"(\d)\.png, 0° away", page.text()), 10)[1]
        view = ["0", "2"].index(nearest)  # the frames that were fitted
        edited = Head(subjects, directions=directions).picture(
            views[view], Look(truncation=0.0, edits=(-3.0, 0.0)), moving=False
        )
        wait_until(lambda: shows(page, of_view[view]), 10)
        assert not shows(page, mean_head[view])
        assert not alike(edited, mean_head[view])
        page.press_on("[role=slider]", "Home")  # truncation 0
        wait_until(lambda: shows(page, mean_head[view]), 10)
        page.press_on('[role=slider][aria-valuemin="-3"]', "Home")  # direction 0
        wait_until(lambda: shows(page, edited), 10)
        page.click("Picture")
        wait_until(lambda: "picture_001.png" in page.text(), 10)
        own = f"http://127.0.0.1:{args.port}/"
        assert [url for url in page.loaded() if not url.startswith((own, "data:", "blob:"))] == []
    picture = np.asarray(Image.open(args.output / "picture_001.png"), int)
    assert np.abs(picture - edited).max() <= 1


def alike(a, b) -> bool:
    return np.abs(a.astype(float) - b).mean() < CLOSE


def shows(page, picture) -> bool:
    """Whether the page shows a picture, enlarged; seen where no control or message covers it."""
    page.dismiss_notices()
    seen = page.screenshot().astype(float)
    height, width = seen.shape[:2]
    wanted = Image.fromarray(picture).resize((height, height), Image.Resampling.BILINEAR)
    left, part = (width - height) // 2, np.s_[height // 2 :, : height // 3]
    difference = seen[:, left : left + height][part] - np.asarray(wanted)[part]
    return np.abs(difference).mean() < CLOSE


def test_ctrl_c_ends_it(server):
    server.send_signal(signal.SIGINT)
    assert server.wait(20) == 130
