"""Shuffled captions are the matched ones permuted: no control, but a test of every metric.

Captions moved by σ, scored against the clips, must equal the unmoved captions scored against clips
moved by σ⁻¹: nothing may depend on where a clip stands.
"""

import numpy as np
import polars as pl
import pytest

from siglip_study.metrics import diversity
from siglip_study.metrics.base import METRICS
from siglip_study.scoring.score_captions import score_captions

N = 12
COLOURS = ("빨간", "파란", "노란", "하얀")
THINGS = ("공", "자동차", "물고기")
REFERENCES = [[f"{COLOURS[i % 4]} {THINGS[i % 3]} 하나가 왼쪽으로 움직인다."] for i in range(N)]
CAPTIONS = [
    f"{COLOURS[(i + i // 5) % 4]} {THINGS[i % 3]} 하나가 {'왼쪽' if i % 2 else '오른쪽'}으로 간다."
    for i in range(N)
]
IDS = [f"clip{i:02d}" for i in range(N)]
GROUPS = [f"video{i // 2}" for i in range(N)]
CATEGORIES = ["abc"[i // 4] for i in range(N)]


def score(caption_of, clip_at, matrix, vectors, columns):
    """Clips in the order ``clip_at``; the clip at place k is given caption ``caption_of[k]``."""
    pick = list(caption_of)
    place = list(clip_at)
    return score_captions(
        [CAPTIONS[i] for i in pick],
        [REFERENCES[j] for j in place],
        [IDS[j] for j in place],
        language="ko",
        train_references=[["초록 나무 두 그루가 서 있다."], ["하얀 배가 바다에 있다."]],
        groups=[GROUPS[j] for j in place],
        categories=[CATEGORIES[j] for j in place],
        matrix=matrix[np.ix_(pick, place)],
        siglip={name: table[pick, place] for name, table in columns.items()},
        temperature=0.1,
        caption_vectors=vectors[pick],
        vector_centre=vectors.mean(axis=0),
        truncated=[i % 5 == 0 for i in pick],
        reference_values={},
    )


@pytest.fixture
def tables():
    rng = np.random.default_rng(2)
    names = ("siglip_sum", "siglip_sigmoid", "siglip_published")
    columns = {name: rng.uniform(size=(N, N)) for name in names}
    return rng.normal(size=(N, N)) * 0.2 + 0.3 * np.eye(N), rng.normal(size=(N, 6)), columns


def test_shuffled_captions_are_the_matched_ones_permuted_for_every_metric(tables):
    sigma = np.random.default_rng(3).permutation(N)
    inverse = np.argsort(sigma)
    # Clip j gets caption σ(j) …
    shuffled = score(sigma, np.arange(N), *tables)
    # … and caption i gets clip σ⁻¹(i): the same pairs, walked in the captions' order.
    permuted = score(np.arange(N), inverse, *tables)
    assert set(shuffled.values) == set(permuted.values)
    assert set(METRICS) - set(shuffled.values) == {"bertscore_f1"}
    for name, found in shuffled.values.items():
        for part in ("value", "low", "high", "chance"):
            wanted = permuted.values[name][part]
            assert found[part] == (
                wanted if wanted is None else pytest.approx(wanted, abs=1e-12)
            ), (
                name,
                part,
            )
    rows = [found.clips.sort("id") for found in (shuffled, permuted)]
    for name in ("retrieval_rank", *(n for n, metric in METRICS.items() if metric.per_clip)):
        values = [table[name].cast(pl.Float64).to_numpy() for table in rows]
        np.testing.assert_allclose(*values, atol=1e-12, err_msg=name)


def test_the_permutation_is_not_vacuous(tables):
    """Shuffling does change what it should: the pairs, and not the captions among themselves."""
    sigma = np.roll(np.arange(N), 1)
    matched, shuffled = (score(order, np.arange(N), *tables) for order in (np.arange(N), sigma))
    assert (
        shuffled.values["grounding_margin"]["value"] < matched.values["grounding_margin"]["value"]
    )
    for name in ("effective_captions", "distinct_ratio", "self_bleu", "vendi", "length_ratio"):
        assert shuffled.values[name]["value"] == pytest.approx(matched.values[name]["value"])
    assert diversity.distinct_ratio(CAPTIONS) > 0.3
