"""A captioner's files, and both halves as one: what is asked of single clips is their mean."""

from __future__ import annotations

import numpy as np
import pytest
from support.scored import HALVES, split_scores, write_captioner

from siglip_study.base.errors import StudyError
from siglip_study.metrics.base import METRICS
from siglip_study.metrics.grounding import auc_within, large_categories, mean_interval
from siglip_study.metrics.retrieval import ranks
from siglip_study.scoring.score_captions import CaptionScores, score_captions
from siglip_study.scoring.score_files import (
    SplitScores,
    both_halves,
    join_halves,
    read_scores,
    truth_of,
)

CLIPS = dict(zip(HALVES, (8, 12), strict=True))


def margins(level: float, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {half: rng.normal(level, 0.1, n) for half, n in CLIPS.items()}


def halves(
    level: float, seed: int, effective: tuple[float, float] = (0.9, 0.9)
) -> list[SplitScores]:
    """Both halves of a captioner, two clips a source video."""
    return [
        split_scores(
            own, half, effective=share, groups=[f"{half}-{i // 2}" for i in range(len(own))]
        )
        for (half, own), share in zip(margins(level, seed).items(), effective, strict=True)
    ]


def test_figures_of_clips_groups_and_splits_are_those_of_all_clips(tmp_path) -> None:
    write_captioner(tmp_path, *halves(0.3, 0, (0.5, 1.0)), cell="x_1")
    told, clips = read_scores(tmp_path)
    assert (told["n_clips"], told["split"]) == (20, "held_out")
    assert clips["id"].to_list() == sorted(clips["id"]) and clips["cluster"].n_unique() == 20
    # Two clips a video: 10 means of two.
    means = np.concatenate([own.reshape(-1, 2).mean(axis=1) for own in margins(0.3, 0).values()])
    margin = told["values"]["grounding_margin"]
    assert margin["value"] == pytest.approx(means.mean())
    # t(.975, 9) = 2.26216
    half_width = 2.26216 * means.std(ddof=1) / np.sqrt(10)
    assert margin["high"] - margin["value"] == pytest.approx(half_width, rel=1e-5)
    assert told["losses"]["shuffled_gap"]["value"] == pytest.approx(means.mean())
    # By clips: (8 × .5 + 12 × 1) / 20.
    assert told["values"]["effective_captions"]["value"] == pytest.approx(0.8)
    assert told["truncated_share"] == pytest.approx(0.1)
    assert (told["n_empty"], told["notes"]) == (2, {"cut": 2})
    assert told["not_computed"] == {"bertscore_f1": "no model"}


def test_a_half_is_read_as_if_it_were_the_split(tmp_path) -> None:
    scored = halves(0.3, 0, (0.5, 1.0))
    write_captioner(tmp_path / "both", *scored)
    for own in scored:
        write_captioner(tmp_path / own.split, own)
        alone, rows = read_scores(tmp_path / own.split)
        half, filtered = read_scores(tmp_path / "both", own.split)
        assert {key: half[key] for key in alone} == alone
        moved = ["cluster", "split"]
        assert filtered.drop(*moved, "half").equals(rows.drop(moved))
    with pytest.raises(StudyError, match="has scores of no half; expected half 'report'"):
        read_scores(tmp_path / "report", "report")


def test_two_cells_that_report_a_half_each_are_joined_from_their_own_halves(tmp_path) -> None:
    first, second = halves(0.3, 1, (0.5, 0.6)), halves(0.2, 2, (0.7, 0.8))
    write_captioner(tmp_path / "x_1", *first, cell="x_1")
    write_captioner(tmp_path / "x_2", *second, cell="x_2")
    parts = {"selection": tmp_path / "x_2", "report": tmp_path / "x_1"}
    join_halves("x.seed1", parts, tmp_path / "joined")
    write_captioner(tmp_path / "expected", second[0], first[1], cell="x.seed1")
    told, clips = read_scores(tmp_path / "joined")
    expected, rows = read_scores(tmp_path / "expected")
    assert told == {**expected, "parts": {"selection": "x_2", "report": "x_1"}}
    assert clips.equals(rows)


def test_a_source_video_in_both_halves_is_refused(tmp_path) -> None:
    scored = [split_scores([1.0] * 4, half, groups=["v0", "v0", "v1", "v1"]) for half in HALVES]
    with pytest.raises(StudyError, match="source video 'v0' has clips in both halves"):
        write_captioner(tmp_path, *scored)


def score(matrix: np.ndarray, kinds: list[str | None], half: str, say: str = "{}") -> CaptionScores:
    """Captions scored by a given matrix; they say what ``say`` makes of the clip's number."""
    ids = [f"{half}{i:02d}" for i in range(len(matrix))]
    return score_captions(
        [say.format(i) for i in range(len(ids))],
        [[f"a clip of number {i}"] for i in range(len(ids))],
        ids,
        language="en",
        train_references=[["one thing"], ["another thing"]],
        categories=kinds,
        matrix=matrix,
        temperature=0.1,
    )


def together(scored: dict[str, CaptionScores]) -> dict:
    """Figures of one captioner over both halves."""
    unknown = dict.fromkeys(("loss_matched", "loss_shuffled", "loss_reversed"))
    own = [
        SplitScores(
            half,
            {
                "values": found.values,
                "metrics": found.metrics,
                "not_computed": found.not_computed,
                "notes": found.notes,
                "n_empty": found.n_empty,
                "truncated_share": 0.0,
                "temperature": 0.1,
            },
            found.clips.with_columns(**unknown),
        )
        for half, found in scored.items()
    ]
    return both_halves("x", own)[0]


def draw(n: int, seed: int, own: float = 0.05) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (n, n)) + own * np.eye(n)


def test_whatever_has_an_interval_is_kept_for_every_clip() -> None:
    """So that nothing over both halves is put together from intervals that were cut at 0 or 1."""
    found = score(draw(9, 1), ["a"] * 9, "report", "a clip of number {0} and {0}, and a clip of")
    with_interval = {name for name, value in found.values.items() if value["low"] is not None}
    assert all(METRICS[name].per_clip for name in with_interval)
    assert {"retrieval_mrr", "novelty", "repetition_4", "meteor_words"} <= with_interval


def test_recall_of_few_hits_reaches_down_to_nothing() -> None:
    """One of nine in either half: the interval is that of both together."""
    matrix = np.zeros((9, 9))
    np.fill_diagonal(matrix, [1.0] + [-1.0] * 8)
    told = together({half: score(matrix, [None] * 9, half) for half in HALVES})
    hits = np.tile([1.0] + [0.0] * 8, 2)
    mean, low, high = mean_interval(hits, share=True)
    assert 0 < low < 1 / 9 < high
    found = told["values"]["retrieval_r1"]
    assert (found["value"], found["low"], found["high"]) == pytest.approx((mean, low, high))
    assert found["chance"] == pytest.approx(1 / 9)


def test_clips_without_company_in_their_category_do_not_weigh() -> None:
    """Three of nine clips of one half have a category, and all of the other."""
    matrices = {"selection": draw(9, 2), "report": draw(9, 3)}
    kinds = {"selection": ["a"] * 3 + [None] * 6, "report": ["a"] * 9}
    told = together({h: score(matrices[h], kinds[h], h) for h in HALVES})
    per_clip = np.concatenate([auc_within(matrices[h], large_categories(kinds[h])) for h in HALVES])
    assert np.isfinite(per_clip).sum() == 12
    found = told["values"]["auc_within"]
    assert (found["value"], found["low"], found["high"]) == pytest.approx(
        mean_interval(per_clip, share=True)
    )
    inside = ranks(matrices["selection"][:3, :3]).recall(1), ranks(matrices["report"]).recall(1)
    recall = told["values"]["retrieval_r1_within"]
    assert recall["value"] == pytest.approx(np.concatenate(inside).mean())
    assert recall["chance"] == pytest.approx((3 / 3 + 9 / 9) / 12)


@pytest.mark.parametrize("bare", HALVES)
def test_one_half_without_categories_leaves_the_figures_of_the_other(bare: str) -> None:
    matrices = {half: draw(9, 4 + place) for place, half in enumerate(HALVES)}
    kinds = {half: [None if half == bare else "a"] * 9 for half in HALVES}
    scored = {half: score(matrices[half], kinds[half], half) for half in HALVES}
    told = together(scored)
    (other,) = set(HALVES) - {bare}
    for name in (name for name, metric in METRICS.items() if metric.within_category):
        expected = scored[other].values[name]
        found = told["values"][name]
        for part in ("value", "low", "high", "chance", "reference"):
            assert found[part] == pytest.approx(expected[part])
        assert name not in told["not_computed"] and told["metrics"][name]
    neither = together({h: score(matrices[h], [None] * 9, h) for h in HALVES})
    assert neither["not_computed"]["auc_within"] == "the clips have no categories"
    assert "auc_within" not in neither["values"]


# --- truth in the demo --------------------------------------------------------------------------

RED, BLUE = {"colour": "red", "weather": "clear"}, {"colour": "blue", "weather": "clear"}


def test_captions_are_held_against_the_facts_of_their_clips() -> None:
    found = truth_of(["빨간 공", "파란 공", "빨간 공", ""], [RED, BLUE, BLUE, RED])
    # Two of four are right; always saying red (or blue) is right twice as well.
    colour, weather = found["colour"], found["weather"]
    assert (colour["accuracy"], colour["majority"], colour["kappa"], colour["n"]) == (
        0.5,
        0.5,
        0,
        4,
    )
    # A fact that never varies has no kappa.
    assert weather["kappa"] is weather["low"] is weather["high"] is None
    assert weather["majority"] == 1.0
