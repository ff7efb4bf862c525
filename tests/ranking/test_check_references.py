"""The scorer check before training: from references and frame embeddings alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.scored import StandInScorer, small_manifest, text_vector

from siglip_study.base.errors import StudyError
from siglip_study.config.study import ScorerConfig
from siglip_study.ranking.scorer_check import check_references, read_check, stop_if_blind

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
    """Write the check of a manifest, this one unless told; returns its file."""

    def run(given: pl.DataFrame = manifest, mixed: bool = False, cross_fit: bool = False) -> Path:
        out, shown = tmp_path / "scorer_check.json", frames(given, mixed)
        check_references(given, shown, StandInScorer(), SETTINGS, 0.05, out, cross_fit=cross_fit)
        return out

    return run


def test_a_scorer_that_tells_lets_training_begin(checked) -> None:
    out = checked()
    found = read_check(out)
    assert set(found.splits) == {"selection", "report"}
    report = found.splits["report"]
    assert found.deciding == report
    assert report.can_tell
    assert (report.n_clips, report.n_groups) == (4, 2)
    # Four clips, each caption the clip itself: it beats every other clip.
    assert report.auc == report.auc_high == 1.0 and report.auc_low < 0.5
    # Two of a category are no comparison within it.
    assert (report.auc_within_category, report.n_within_category) == (None, 0)
    stop_if_blind(found, out)


def test_a_blind_scorer_ends_the_study(checked) -> None:
    out = checked(mixed=True)
    found = read_check(out)
    assert not found.deciding.can_tell
    with pytest.raises(StudyError, match=r"'stand-in' cannot tell: .*scorer_check\.json"):
        stop_if_blind(found, out)


def test_what_was_written_is_read(manifest, tmp_path) -> None:
    out = tmp_path / "scorer_check.json"
    shown = frames(manifest, False)
    found = check_references(manifest, shown, StandInScorer(), SETTINGS, 0.05, out)
    assert read_check(out) == found
    assert [point.share for point in found.deciding.swapped] == [0.0, 0.1, 0.25, 0.5, 1.0]


def test_halves_that_exchange_decide_together(checked) -> None:
    found = read_check(checked(cross_fit=True))
    both = found.splits["held_out"]
    assert found.deciding == both
    assert (both.n_clips, both.n_groups) == (10, 8)
    # Six videos of one clip, two of two: their means, each within its half.
    halves = [found.splits[half] for half in ("selection", "report")]
    assert both.mean_margin == pytest.approx(sum(h.mean_margin * h.n_groups for h in halves) / 8)
    assert both.low < both.mean_margin < both.high
    # Unswapped, mean D by clips; all swapped, none.
    whole, *_, none = both.swapped
    by_clips = sum(half.swapped[0].mean * half.n_clips for half in halves) / 10
    assert whole.mean == pytest.approx(by_clips)
    assert (whole.n_swapped, none.n_swapped) == (0, 10)
    assert none.high < whole.mean


@pytest.mark.parametrize(
    ("kept", "cross_fit", "message"),
    [
        (
            ["report-0", "report-2"],
            True,
            r"half 'report' has 2 clips.*at least 3 in each half",
        ),
        (["report-0"], False, "split 'report' has 1 usable clips; expected at least 2"),
    ],
)
def test_too_few_clips_are_no_check(checked, manifest, kept, cross_fit, message) -> None:
    few = manifest.filter((pl.col("split") != "report") | pl.col("id").is_in(kept))
    with pytest.raises(StudyError, match=message):
        checked(few, cross_fit=cross_fit)


def test_clips_without_embeddings_are_named(manifest, tmp_path) -> None:
    found = frames(manifest, False)
    del found["report"]["report-2"]
    with pytest.raises(StudyError, match="report-2"):
        check_references(manifest, found, StandInScorer(), SETTINGS, 0.05, tmp_path / "check.json")


def test_the_switch_is_no_reason_to_score_again() -> None:
    turned = ScorerConfig(model="stand-in", stop_if_blind=False)
    assert turned.scoring_keys() == SETTINGS.scoring_keys()
    assert ScorerConfig(model="stand-in", frames=3).scoring_keys() != SETTINGS.scoring_keys()
