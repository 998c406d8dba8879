"""The compilation cache lies in the user's cache folder unless told otherwise."""

import logging
import stat

import jax
import pytest

from experiments import command


@pytest.fixture(autouse=True)
def _restore():
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("EG3D_JAX_NO_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_the_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.enable_compilation_cache() == tmp_path / ".cache" / "eg3d_jax" / "xla"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".cache" / "eg3d_jax" / "xla")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 1.0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert command.enable_compilation_cache() == tmp_path / "xdg" / "eg3d_jax" / "xla"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert command.enable_compilation_cache() == tmp_path / "own"


def test_the_cache_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("EG3D_JAX_NO_CACHE", "1")
    assert command.enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert command.enable_compilation_cache() is None


@pytest.mark.parametrize(("mode", "used"), [(0o755, True), (0o775, False), (0o757, False)])
def test_a_cache_that_others_can_write_is_done_without(tmp_path, monkeypatch, mode, used):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = command.enable_compilation_cache()
    assert folder is not None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(mode)
    assert (command.enable_compilation_cache() == folder) is used


def test_the_loader_is_quiet_while_jax_warns_on(monkeypatch):
    told = []
    monkeypatch.setattr(jax.config, "update", lambda *option: told.append(option))
    for name in ("TF_CPP_MIN_LOG_LEVEL", "JAX_LOGGING_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    command.quiet_cache_loader()
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")  # as JAX sets it
    command.quiet_cache_loader()
    assert told == [("jax_logging_level", "CRITICAL")] * 2
    assert logging.getLogger("jax").isEnabledFor(logging.WARNING)

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    command.quiet_cache_loader()
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    monkeypatch.setenv("JAX_LOGGING_LEVEL", "DEBUG")
    command.quiet_cache_loader()
    assert len(told) == 2
