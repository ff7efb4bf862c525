"""Same-category negatives: a caption is compared only with clips of its own category."""

import numpy as np
import pytest

from siglip_study.scoring.score_captions import score_captions

NAMES = ("grounding_margin_within", "auc_within", "retrieval_r1_within")


def score(matrix, categories, captions=None):
    n = len(matrix)
    return score_captions(
        captions or [f"caption {i}" for i in range(n)],
        [[f"reference {i}"] for i in range(n)],
        [f"clip{i:02d}" for i in range(n)],
        language="en",
        train_references=[["a reference"]],
        categories=categories,
        matrix=np.asarray(matrix, dtype=float),
    )


def test_worked_by_hand():
    # Category x: clips 0, 1, 2; clip 3 stands alone and must not count, though it wins every row.
    matrix = [
        [0.6, 0.2, 0.1, 0.9],
        [0.3, 0.5, 0.0, 0.9],
        [0.4, 0.4, 0.2, 0.9],
        [0.0, 0.0, 0.0, 0.9],
    ]
    found = score(matrix, ["x", "x", "x", "y"])
    # Own clip first for captions 0 and 1, last for 2; chance is one in three.
    assert found.values["retrieval_r1_within"]["value"] == pytest.approx(2 / 3)
    assert found.values["retrieval_r1_within"]["chance"] == pytest.approx(1 / 3)
    assert found.values["retrieval_r1"]["value"] == pytest.approx(1 / 4)
    # AUC: 2 of 2, 2 of 2, 0 of 2 other clips fit worse.
    assert found.values["auc_within"]["value"] == pytest.approx(2 / 3)
    # The mean of D is mean diagonal (1.3 / 3) less mean off the diagonal (1.4 / 6).
    assert found.values["grounding_margin_within"]["value"] == pytest.approx(1.3 / 3 - 1.4 / 6)
    assert found.clips["grounding_margin_within"].null_count() == 1


@pytest.mark.parametrize(
    ("categories", "why"),
    [
        ([None] * 4, "the clips have no categories"),
        (["a", "a", "b", "b"], "no category has 3 clips"),
        (["a", None, "b", "c"], "no category has 3 clips"),
    ],
)
def test_too_few_clips_are_said_and_not_computed(categories, why):
    found = score(np.eye(4), categories)
    for name in NAMES:
        assert name not in found.values and found.not_computed[name] == why


def test_small_categories_are_left_out_and_empty_captions_come_last():
    matrix = np.eye(5)
    found = score(matrix, ["a", "a", "a", "b", "b"], ["", "x1", "x2", "x3", "x4"])
    rows = found.clips.sort("id")
    assert rows["grounding_margin_within"].is_null().to_list() == [False] * 3 + [True] * 2
    assert found.values["retrieval_r1_within"]["value"] == pytest.approx(2 / 3)
    assert found.values["auc_within"]["value"] == pytest.approx(2 / 3)
