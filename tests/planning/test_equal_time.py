"""Budgets of equal GPU time, worked out by hand, and the file that Snakemake merges."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from siglip_study.base.errors import StudyError
from siglip_study.base.io import write_json
from siglip_study.planning.equal_time import StepTimes, equal_budgets, main, overlay, step_times
from siglip_study.planning.estimate import Cost, Forecast
from siglip_study.planning.rehearse import REHEARSAL_SCHEMA, timed_settings, training_record

# 20 clips in steps of 2 × 2: 5 steps an epoch.
CLIPS = 20


def times(clips=CLIPS, **seconds):
    return StepTimes("by hand", clips, seconds)


@pytest.mark.parametrize(
    ("changes", "seconds", "expected"),
    [
        # Stage 1 has two epochs: linear takes 2·5·3 s there and 5·4 s for each epoch of stage 2.
        (
            {},  # budgets of one and of three epochs
            {"linear": (3.0, 4.0), "query_abstractor": (1.0, 1.5)},
            [
                ("linear", 1, 50.0, 0.0),  # 30 + 20
                ("linear", 3, 90.0, 0.0),  # 30 + 60
                ("query_abstractor", 5, 47.5, -5.0),  # (50 - 10) / 7.5 = 5.33
                ("query_abstractor", 11, 92.5, 2.78),  # (90 - 10) / 7.5 = 10.67
            ],
        ),
        # A reference with epochs of its own: 2·5·1 + 2·5·2 = 30 s; (30 - 10) / 5 = 4 exactly.
        (
            {"projectors": {"linear": {"epochs": [2]}, "perceiver": {}}},
            {"linear": (1.0, 2.0), "perceiver": (1.0, 1.0)},
            [("linear", 2, 30.0, 0.0), ("perceiver", 4, 30.0, 0.0)],
        ),
    ],
)
def test_epochs_by_hand(study, changes, seconds, expected):
    budgets = equal_budgets(study(**changes), times(**seconds), "linear")
    found = [
        (b.projector, b.epochs, round(3600 * b.hours, 6), round(100 * b.deviation, 2))
        for b in budgets
    ]
    assert found == expected


def test_halves_are_rounded_up_and_the_last_step_of_an_epoch_counts_whole(study):
    config = study(grid={"learning_rate": [1e-3], "epochs": [5]}, stage1={"epochs": 1})
    seconds = times(17, linear=(1.0, 1.0), query_abstractor=(1.0, 2.0))
    by_label = {b.projector: b for b in equal_budgets(config, seconds, "linear")}
    assert by_label["query_abstractor"].epochs == 3  # 2.5
    # Stage 1 (batch 4 × 2, the default) takes 3 steps for 17 clips, stage 2 takes 5.
    assert by_label["linear"].hours * 3600 == pytest.approx(3 + 5 * 5)


@pytest.mark.parametrize(
    ("reference", "changes", "seconds", "sentence"),
    [
        (
            "query_abstractor",
            {},
            {"linear": (3.0, 4.0), "query_abstractor": (1.0, 1.5)},
            "those of linear at least 50; expected a slower reference, such as linear",
        ),
        (
            "query_abstractor",
            {"grid": {"learning_rate": [1e-3], "epochs": [2, 3]}},
            {"linear": (1.0, 2.5), "query_abstractor": (1.0, 1.0)},  # 0.8 and 1.2 epochs
            "budgets of 2 and 3 epochs both come to 1 of linear",
        ),
        (
            "linear",
            {"stage2": {"early_stopping": {"patience": 1}}},
            {"linear": (1.0, 1.0), "query_abstractor": (1.0, 1.0)},
            r"stage2\.early_stopping is set; expected null",
        ),
    ],
)
def test_what_cannot_be_equal_is_one_sentence(study, reference, changes, seconds, sentence):
    with pytest.raises(StudyError, match=sentence):
        equal_budgets(study(**changes), times(**seconds), reference)


# ---- The rehearsal's file.

STEPS = {"linear": (3.0, 4.0), "query_abstractor": (1.0, 1.5)}


def rehearsal(config, problem=None):
    """Content of a rehearsal.json with these seconds a step of stage 1 and of stage 2."""
    steps = {
        label: [{"seconds": s, "problem": problem} for s in both] for label, both in STEPS.items()
    }
    training = {"train_clips": CLIPS, "settings": timed_settings(config), "steps": steps}
    return {"device": "H200", "how": "measured", "training": training}


def test_step_times_come_back_from_the_file(study):
    read = step_times(rehearsal(study()), study(), "rehearsal.json")
    assert read == StepTimes("H200: measured", CLIPS, STEPS)
    # Budgets and rates are what one chooses with it; clips captioned in passing cost no step.
    other = study(
        grid={"learning_rate": [5e-4], "epochs": [7]},
        training={"max_target_tokens": 24, "quick_clips": 9},
        projectors={"linear": {"epochs": [2]}},
    )
    assert step_times(rehearsal(study()), other, "").seconds == {"linear": (3.0, 4.0)}


@pytest.mark.parametrize(
    ("changes", "problem", "sentence"),
    [
        (
            {"stage2": {"batch_size": 8}},
            None,
            r"stage2\.batch_size 2; expected 8, as in the config",
        ),
        ({"training": {"max_target_tokens": 99}}, None, r"max_target_tokens 24; expected 99"),
        (
            {"projectors": {"linear": {}, "query_abstractor": {"options": {"queries": 8}}}},
            None,
            r"projectors\.query_abstractor\.options \{'heads': 4, 'queries': 4\}; expected",
        ),
        (
            {"projectors": {"linear": {}, "perceiver": {}}},
            None,
            r"projectors\.perceiver\.type absent; expected 'perceiver'",
        ),
        ({}, "needs 12 GiB", r"stage 1 of linear has no step time \(needs 12 GiB\)"),
    ],
)
def test_a_rehearsal_that_will_not_do(study, changes, problem, sentence):
    with pytest.raises(StudyError, match=sentence):
        step_times(rehearsal(study(), problem), study(**changes), "rehearsal.json")


def test_twins_share_their_step_times_and_controls_have_none(study):
    """Two labels of one connector are timed once."""
    config = study(projectors={"linear": {}, "linear.again": {"type": "linear"}})
    forecast = Forecast(config)
    rows = [
        replace(row, measured=Cost(float(row.about.stage)))
        for row in forecast.rows()
        if row.part.startswith("stage")
    ]
    told = training_record(forecast, rows)
    both = [{"seconds": 1.0, "problem": None}, {"seconds": 2.0, "problem": None}]
    assert told["steps"] == {"linear": both, "linear.again": both}
    assert told["train_clips"] == 20


# ---- The command.


@pytest.fixture
def base(study, tmp_path):
    """The study as a config file."""
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study().model_dump(mode="json", exclude_unset=True)))
    return path


def test_the_command_prints_a_table_and_writes_an_overlay(study, base, tmp_path, capsys):
    out, path = tmp_path / "equal.yaml", tmp_path / "rehearsal.json"
    write_json(path, rehearsal(study()), REHEARSAL_SCHEMA)
    arguments = [str(base), "--reference", "linear", "--rehearsal", str(path), "--out", str(out)]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if line.startswith("query_abstractor"))
    assert row.split() == ["query_abstractor", "1", "1.5", "5", "0.0132", "-5.0", "%"]
    assert "deviations reach -5.0 % (query_abstractor)" in told
    assert "H200: measured" in told
    written = out.read_text("utf-8")
    assert f"--configfile {base} {out}" in written
    assert yaml.safe_load(written) == {
        "output_dir": f"{study().output_dir}_equal_time",
        "projectors": {"linear": {"epochs": [1, 3]}, "query_abstractor": {"epochs": [5, 11]}},
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--reference", "mlp"], "--reference is 'mlp'; expected one of projectors"),
        (["--reference", "linear", "--rehearsal", "nowhere.json"], "nowhere.json: no such file"),
        (["--reference", "linear", "--rehearsal", "old.json"], "expected 'rehearsal/2'"),
    ],
)
def test_mistakes_end_in_one_sentence(base, tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "old.json", {}, "rehearsal/1")
    assert main([str(base), *options]) == 1
    told = capsys.readouterr().err
    assert told.startswith("siglip-study: ") and told.count("\n") == 1 and said in told


def test_without_a_gpu_the_full_study_is_estimated(monkeypatch, tmp_path, capsys):
    """About ten times the tokens take about ten times as long; nothing is off by more than 3 %."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[2] / "config" / "published.yaml"
    assert main([str(config), "--reference", "linear", "--out", "equal.yaml"]) == 0
    assert "estimated from FLOPs and bytes" in capsys.readouterr().out
    laid = yaml.safe_load((tmp_path / "equal.yaml").read_text("utf-8"))
    epochs = {k: v["epochs"] for k, v in laid["projectors"].items()}
    assert epochs["linear"] == epochs["mlp_2l"] == [3]
    assert 10 < epochs["c_abstractor"][0] < epochs["perceiver"][0] < 60
    assert (tmp_path / "results/published/rehearsal.json").is_file()


def test_labels_that_yaml_would_read_as_something_else(study):
    config = study(projectors={"1.5": {"type": "linear"}, "no": {"type": "linear"}})
    seconds = times(**{"1.5": (1.0, 1.0), "no": (1.0, 1.0)})
    laid = yaml.safe_load(overlay(config, equal_budgets(config, seconds, "no")))
    assert set(laid["projectors"]) == {"1.5", "no"}
