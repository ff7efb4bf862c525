"""Every metric over both halves: what is asked of single clips is their mean, whatever the half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.io import read_json, write_json, write_parquet
from siglip_study.metrics.grounding import auc, large_categories, mean_interval
from siglip_study.metrics.registry import WITHIN_CATEGORY
from siglip_study.metrics.retrieval import ranks
from siglip_study.ranking.pooling import pool_halves
from siglip_study.scoring.score_captions import CLIP_METRICS, Scores, score_captions

HALVES = ("selection", "report")


def score(matrix: np.ndarray, kinds: list[str | None], half: str, say: str = "{}") -> Scores:
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


def pool(tmp_path: Path, scored: dict[str, Scores]) -> dict:
    halves = {}
    for half, found in scored.items():
        folder = tmp_path / half
        body = {
            "cell": "x",
            "role": "report",
            "projector": "x",
            "seed": 1,
            "split": half,
            "values": found.values,
            "metrics": found.metrics,
            "not_computed": found.not_computed,
            "notes": found.notes,
            "n_empty": found.n_empty,
            "truncated_share": 0.0,
            "temperature": 0.1,
        }
        write_json(folder / "metrics.json", body, "metrics/1")
        unknown = dict.fromkeys(("loss_matched", "loss_shuffled", "loss_reversed"))
        write_parquet(folder / "clips.parquet", found.clips.with_columns(**unknown))
        halves[half] = ("x", folder)
    pool_halves("x", halves, tmp_path / "out")
    return read_json(tmp_path / "out" / "metrics.json", "metrics/1")


def draw(n: int, seed: int, own: float = 0.05) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (n, n)) + own * np.eye(n)


def test_whatever_has_an_interval_is_kept_for_every_clip() -> None:
    """So that nothing over both halves is put together from intervals that were cut at 0 or 1."""
    found = score(draw(9, 1), ["a"] * 9, "report", "a clip of number {0} and {0}, and a clip of")
    with_interval = {name for name, value in found.values.items() if value["low"] is not None}
    assert with_interval <= set(CLIP_METRICS)
    assert {"retrieval_mrr", "novelty", "repetition_4", "meteor_words"} <= with_interval


def test_recall_of_few_hits_reaches_down_to_nothing(tmp_path: Path) -> None:
    """One of nine in either half: each interval was cut at 0, that of both together is not."""
    matrix = np.zeros((9, 9))
    np.fill_diagonal(matrix, [1.0] + [-1.0] * 8)
    told = pool(tmp_path, {half: score(matrix, [None] * 9, half) for half in HALVES})
    hits = np.tile([1.0] + [0.0] * 8, 2)
    mean, low, high = mean_interval(hits)
    assert low < 0
    found = told["values"]["retrieval_r1"]
    assert (found["value"], found["low"], found["high"]) == pytest.approx((mean, 0.0, high))
    assert found["chance"] == pytest.approx(1 / 9)


def test_clips_without_company_in_their_category_do_not_weigh(tmp_path: Path) -> None:
    """Three of nine clips of one half have a category, and all of the other."""
    matrices = {"selection": draw(9, 2), "report": draw(9, 3)}
    kinds = {"selection": ["a"] * 3 + [None] * 6, "report": ["a"] * 9}
    told = pool(tmp_path, {h: score(matrices[h], kinds[h], h) for h in HALVES})
    per_clip = np.concatenate([auc(matrices[h], large_categories(kinds[h])) for h in HALVES])
    assert np.isfinite(per_clip).sum() == 12
    found = told["values"]["auc_within"]
    assert (found["value"], found["low"], found["high"]) == pytest.approx(mean_interval(per_clip))
    inside = ranks(matrices["selection"][:3, :3]).recall(1), ranks(matrices["report"]).recall(1)
    recall = told["values"]["retrieval_r1_within"]
    assert recall["value"] == pytest.approx(np.concatenate(inside).mean())
    assert recall["chance"] == pytest.approx((3 / 3 + 9 / 9) / 12)


@pytest.mark.parametrize("bare", HALVES)
def test_one_half_without_categories_leaves_the_figures_of_the_other(tmp_path, bare: str) -> None:
    matrices = {half: draw(9, 4 + place) for place, half in enumerate(HALVES)}
    kinds = {half: [None if half == bare else "a"] * 9 for half in HALVES}
    scored = {half: score(matrices[half], kinds[half], half) for half in HALVES}
    told = pool(tmp_path, scored)
    (other,) = set(HALVES) - {bare}
    for name in WITHIN_CATEGORY:
        expected = scored[other].values[name]
        found = told["values"][name]
        for part in ("value", "low", "high", "chance", "reference"):
            assert found[part] == pytest.approx(expected[part])
        assert name not in told["not_computed"] and told["metrics"][name]
    neither = pool(tmp_path, {h: score(matrices[h], [None] * 9, h) for h in HALVES})
    assert neither["not_computed"]["auc_within"] == "the clips have no categories"
    assert "auc_within" not in neither["values"]
