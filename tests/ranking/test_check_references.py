"""The scorer check before training: from references and frame embeddings alone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.scored import StandInScorer, small_manifest, text_vector

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.config.study import ScorerConfig
from siglip_study.ranking.scorer_check import check_references, read_check, verdict

SETTINGS = ScorerConfig(model="stand-in")


def frames(manifest: pl.DataFrame, mixed: bool) -> dict[str, dict[str, np.ndarray]]:
    """Frames that look like their own clip's caption, or like that of the next clip but one."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for split in ("selection", "report"):
        rows = manifest.filter(pl.col("split") == split).sort("id").to_dicts()
        shown = rows[2:] + rows[:2] if mixed else rows
        found[split] = {
            row["id"]: np.stack([text_vector(other["captions"][0])] * 2)
            for row, other in zip(rows, shown, strict=True)
        }
    return found


@pytest.fixture
def manifest() -> pl.DataFrame:
    return small_manifest()


@pytest.fixture
def checked(tmp_path: Path, manifest):
    def run(mixed: bool = False) -> Path:
        out = tmp_path / "scorer_check.json"
        check_references(manifest, frames(manifest, mixed), StandInScorer(), SETTINGS, 0.05, out)
        return out

    return run


def test_a_scorer_that_tells_lets_training_begin(checked, caplog) -> None:
    with caplog.at_level(logging.INFO):
        out = checked()
    body = read_json(out, "scorer_check/1")
    assert body["can_tell"] and set(body["splits"]) == {"selection", "report"}
    assert [message for message in caplog.messages] == [f"stand-in: {body['sentence']}"]
    report = body["splits"]["report"]
    assert report["n_clips"] == 4 and report["n_groups"] == 2
    # Four clips, each caption the clip itself: it beats every other clip.
    assert report["auc"] == report["auc_low"] == report["auc_high"] == 1.0
    # Two of a category are no comparison within it.
    assert report["auc_within_category"] is None and report["n_within_category"] == 0
    assert verdict(out, stop_if_blind=True) == body["sentence"]


def test_a_blind_scorer_ends_the_study_with_its_sentence(checked) -> None:
    out = checked(mixed=True)
    assert not read_json(out, "scorer_check/1")["can_tell"]
    with pytest.raises(StudyError, match=r"'stand-in': The scorer cannot tell; no verdict: the .*"):
        verdict(out, stop_if_blind=True)
    assert verdict(out, stop_if_blind=False).startswith("The scorer cannot tell")


def test_what_was_written_is_what_the_ranking_reads(checked) -> None:
    out = checked()
    told = read_json(out, "scorer_check/1")["splits"]["report"]
    check = read_check(out)
    assert check.mean_margin == told["mean_margin"] and check.can_tell
    assert [point.share for point in check.swapped] == [0.0, 0.1, 0.25, 0.5, 1.0]


def test_halves_that_exchange_decide_together(manifest, tmp_path) -> None:
    out = tmp_path / "scorer_check.json"
    shown = frames(manifest, False)
    check_references(manifest, shown, StandInScorer(), SETTINGS, 0.05, out, cross_fit=True)
    splits = read_json(out, "scorer_check/1")["splits"]
    both, check = splits["held_out"], read_check(out)
    assert (both["n_clips"], both["n_groups"]) == (10, 8) and check.n_clips == 10
    # Six videos of one clip, two of two: their means, each within its half.
    by_half = {half: splits[half] for half in ("selection", "report")}
    means = sum(own["mean_margin"] * own["n_groups"] for own in by_half.values()) / 8
    assert both["mean_margin"] == pytest.approx(means)
    assert both["low"] < both["mean_margin"] < both["high"]
    # Unswapped, mean D by clips; all swapped, none.
    whole, *_, none = both["swapped"]
    by_clips = sum(own["swapped"][0]["mean"] * own["n_clips"] for own in by_half.values()) / 10
    assert whole["mean"] == pytest.approx(by_clips)
    assert (whole["n_swapped"], none["n_swapped"]) == (0, 10) and none["high"] < whole["mean"]


def test_two_clips_are_no_half(manifest, tmp_path) -> None:
    few = manifest.filter(
        (pl.col("split") != "report") | pl.col("id").is_in(["report-0", "report-2"])
    )
    out = tmp_path / "scorer_check.json"
    shown = frames(few, False)
    with pytest.raises(StudyError, match=r"half 'report' has 2 clips.*at least 3 in each half"):
        check_references(few, shown, StandInScorer(), SETTINGS, 0.05, out, cross_fit=True)


def test_clips_without_embeddings_are_named(manifest, tmp_path) -> None:
    found = frames(manifest, False)
    del found["report"]["report-2"]
    with pytest.raises(StudyError, match="report-2"):
        check_references(manifest, found, StandInScorer(), SETTINGS, 0.05, tmp_path / "check.json")


def test_one_clip_cannot_be_checked(manifest, tmp_path) -> None:
    one = manifest.filter((pl.col("split") != "report") | (pl.col("id") == "report-0"))
    with pytest.raises(StudyError, match="split 'report' has 1 usable clips; expected at least 2"):
        check_references(
            one, frames(one, False), StandInScorer(), SETTINGS, 0.05, tmp_path / "check.json"
        )


def test_the_switch_is_no_reason_to_score_again() -> None:
    turned = ScorerConfig(model="stand-in", stop_if_blind=False)
    assert turned.scoring_keys() == SETTINGS.scoring_keys()
    assert ScorerConfig(model="stand-in", frames=3).scoring_keys() != SETTINGS.scoring_keys()
