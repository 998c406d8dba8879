"""A bucket of S3's interface on this machine, as moto's server has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

PACKAGES = ("s3fs", "moto", "flask", "flask_cors")
WANTED = f"`make store` installs {', '.join(PACKAGES)}"


def installed() -> bool:
    return all(find_spec(name) for name in PACKAGES)


@contextmanager
def bucket() -> Iterator[str]:
    """URL of an empty one, which this process and those that it starts can reach meanwhile."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "a", "secret": "b"}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for option, value in options.items():
                patch.setenv(f"FSSPEC_S3_{option.upper()}", value)
            patch.setitem(fsspec.config.conf, "s3", options)
            name = f"heads-{port}"  # moto never forgets one
            fsspec.filesystem("s3").mkdir(name)
            yield f"s3://{name}"
    finally:
        server.stop()
