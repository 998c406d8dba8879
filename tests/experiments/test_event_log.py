"""Losses are logged once for every step, also over an interruption."""

import csv

import numpy as np
import pytest

from experiments.runs.log import EventLog

_TERMS = ("pixel", "prior")


def _rows(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_steps_of_every_stage_are_read_back(tmp_path):
    pixel = np.linspace(1, 0.1, 6)
    with EventLog(tmp_path, _TERMS) as log:
        log.scalars("latent", 0, {"pixel": pixel[:4], "prior": pixel[:4] / 2})
        log.scalars("latent", 4, {"pixel": pixel[4:], "prior": pixel[4:] / 2})
        log.scalars("tuning", 0, {"pixel": np.array([0.05])})
        log.image("views", 3, np.zeros((8, 8, 3), np.uint8))
        history = log.history("latent")
        assert set(history) == {"pixel", "prior"}
        np.testing.assert_allclose(history["prior"], pixel / 2, rtol=1e-6)
        assert set(log.history("tuning")) == {"pixel"}
    assert [row["step"] for row in _rows(tmp_path)] == ["0", "1", "2", "3", "4", "5", "0"]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_resumed_run_logs_no_step_twice(tmp_path):
    with EventLog(tmp_path, _TERMS) as log:
        log.scalars("latent", 0, {"pixel": np.arange(5.0)})
        log.scalars("tuning", 0, {"pixel": np.arange(5.0)})
        log.scalars("later", 0, {"pixel": np.arange(5.0)})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("later,5")  # the run was killed while it wrote
    with EventLog(tmp_path, _TERMS, keep={"latent": 5, "tuning": 2}) as log:
        log.scalars("tuning", 2, {"pixel": [12.0, 13.0]})
        np.testing.assert_array_equal(log.history("latent")["pixel"], np.arange(5))
        np.testing.assert_array_equal(log.history("tuning")["pixel"], [0, 1, 12, 13])
        assert log.history("later") == {}


def test_steps_that_are_done_again_are_logged_once(tmp_path):
    with EventLog(tmp_path, _TERMS) as log:
        log.scalars("latent", 0, {"pixel": np.arange(5.0)})
        log.scalars("tuning", 0, {"pixel": np.arange(3.0)})
        log.go_back("latent", 2)
        log.scalars("latent", 2, {"pixel": [12.0, 13.0]})
        np.testing.assert_array_equal(log.history("latent")["pixel"], [0, 1, 12, 13])
        np.testing.assert_array_equal(log.history("tuning")["pixel"], np.arange(3))
        log.go_back("tuning", 0)
        assert log.history("tuning") == {}
    assert [row["step"] for row in _rows(tmp_path)] == ["0", "1", "2", "3"]


def test_a_new_log_starts_empty(tmp_path):
    for _ in range(2):
        with EventLog(tmp_path, _TERMS) as log:
            log.scalars("latent", 0, {"pixel": [1.0]})
    assert len(_rows(tmp_path)) == 1


def test_an_unknown_term_is_refused(tmp_path):
    with EventLog(tmp_path, _TERMS) as log, pytest.raises(ValueError, match="identity"):
        log.scalars("latent", 0, {"identity": [1.0]})


def test_a_loss_that_is_not_finite_is_logged_as_it_is(tmp_path):
    with EventLog(tmp_path, _TERMS) as log:
        log.scalars("latent", 0, {"pixel": [np.nan, np.inf]})
        np.testing.assert_array_equal(log.history("latent")["pixel"], [np.nan, np.inf])
