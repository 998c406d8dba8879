"""A headless Chromium, driven over its DevTools protocol with the web sockets that viser brings."""

import base64
import io
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
_SIZE = {"width": 640, "height": 320, "deviceScaleFactor": 1, "mobile": False}
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --use-angle=swiftshader "
    "--enable-unsafe-swiftshader --hide-scrollbars --remote-debugging-port=0 "
    # There is no network but this machine's own.
    "--proxy-server=http://127.0.0.1:9 --proxy-bypass-list=127.0.0.1"
)


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browse(program: str, profile: Path, url: str):
    """Open a page with a new profile: a `Page`."""
    command = [program, *_FLAGS.split(), f"--user-data-dir={profile}", url]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **silent) as process:
        try:
            with connect(_address(profile, url), max_size=None, compression=None) as socket:
                page = Page(socket)
                page.call("Emulation.setDeviceMetricsOverride", **_SIZE)
                yield page
        finally:
            process.terminate()


class Page:
    """What a test does with a page, and sees of it."""

    def __init__(self, socket):
        self._socket, self._numbers = socket, itertools.count(1)

    def call(self, method: str, **params):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv(30))).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def evaluate(self, expression: str):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def screenshot(self) -> np.ndarray:
        data = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def drag(self, start, end, steps: int = 8):
        """Press at one point of the page, move, and release at another."""
        path = np.linspace(start, end, steps)
        for kind, (x, y) in [
            ("mousePressed", path[0]),
            *(("mouseMoved", point) for point in path),
            ("mouseReleased", path[-1]),
        ]:
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1,
                clickCount=1,
            )  # fmt: skip

    def click(self, text: str):
        """The button of that text."""
        buttons = "[...document.querySelectorAll('button')]"
        self.evaluate(f"{buttons}.find(b => b.innerText == {json.dumps(text)}).click()")

    def dismiss_notices(self):
        """Close what lies over the page, such as viser's notice of a browser without a GPU."""
        self.evaluate(
            "document.querySelectorAll('[class*=Notification-closeButton]').forEach(b => b.click())"
        )

    def loaded(self) -> list[str]:
        """Addresses of all that the page asked for, got or not."""
        entries = "performance.getEntriesByType('resource').map(entry => entry.name)"
        return json.loads(self.evaluate(f"JSON.stringify({entries})"))

    def text(self) -> str:
        """All that can be read on the page."""
        return self.evaluate("document.body?.innerText") or ""

    def press_on(self, selector: str, key: str):
        """A key, on the first thing that a CSS selector finds."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def wait_until(holds, seconds: float):
    """Ask again and again until it holds; its value."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(0.1)
    return value


def _address(profile: Path, url: str) -> str:
    """The web socket of the page, once the browser has written its own port and opened it."""
    file = profile / "DevToolsActivePort"
    wait_until(lambda: file.exists() and "\n" in file.read_text(), 30)
    listing = f"http://127.0.0.1:{file.read_text().split()[0]}/json"

    def pages():
        with urllib.request.urlopen(listing) as answer:
            return [page for page in json.load(answer) if page["url"] == url]

    return wait_until(pages, 30)[0]["webSocketDebuggerUrl"]
