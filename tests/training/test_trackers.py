"""Trackers get the rows of steps.parquet and epochs.parquet, and change none of them."""

import importlib.util

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.training.trackers import tracked


@pytest.fixture
def heard(monkeypatch):
    """A tracker class in TensorBoard's place; what its trackers were told."""
    from accelerate import tracking

    heard = []

    class Tracker(tracking.GeneralTracker):
        name = "tensorboard"
        requires_logging_directory = True
        tracker = None

        def __init__(self, run, folder):
            super().__init__()
            heard.append((run, folder))

        def log(self, values, step, **_):
            heard.append((step, values))

        def finish(self):
            heard.append("finished")

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Tracker)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    return heard


def test_every_row_is_sent_once_and_no_row_changes(train, make_model, heard, tmp_path):
    alone = train(make_model("linear"), resume="alone")
    with tracked(["tensorboard"], tmp_path / "tracking", "linear_1.stage1") as track:
        position = train(make_model("linear"), on_epochs=[track])
    assert heard[0] == ("linear_1.stage1", str(tmp_path / "tracking/tensorboard"))
    assert heard[-1] == "finished"
    sent = [(step, told) for step, told in heard[1:-1] if "loss" in told]
    losses = [(row["step"], row["loss"]) for row in position.steps]
    assert [(step, told["loss"]) for step, told in sent] == losses
    assert losses == [(row["step"], row["loss"]) for row in alone.steps]
    ends = [told["epoch/val_loss"] for _, told in heard[1:-1] if "epoch/val_loss" in told]
    assert ends == [row["val_loss"] for row in position.epochs]


def test_a_tracker_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(StudyError, match=r"runtime\.trackers names 'wandb', which is not installed"),
        tracked(["wandb"], tmp_path, "run"),
    ):
        pass
