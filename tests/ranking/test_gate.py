"""The gate: published runs collapse, references never do, right facts in boilerplate pass."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_study.metrics.grounding import grounding_margin
from siglip_study.ranking.gate import (
    Candidate,
    References,
    gate,
    gate_all,
)

HUMAN = References(effective=0.9, top_share=0.03, mean_margin=0.1)


def margins(mean: float, sd: float = 0.05, seeds: int = 3, groups: int = 97) -> np.ndarray:
    """Margins whose mean is exactly ``mean``."""
    x = np.random.default_rng(0).normal(0, sd, (seeds, groups))
    return x - x.mean() + mean


# Final distinct ratio of the published runs E5-v2, E5-v3 and E7-v2, of 97 captions; one for all.
@pytest.mark.parametrize("ratio", [0.11, 0.06, 0.08, 0.01])
def test_published_runs_are_collapsed(ratio: float) -> None:
    # Margins of captions that do not depend on the clip, measured as we measure.
    n_distinct = round(ratio * 97)
    rng = np.random.default_rng(n_distinct)
    caption = rng.integers(n_distinct, size=97)
    scores = rng.normal(0.1, 0.03, (n_distinct, 97))[caption]
    shares = np.bincount(caption, minlength=n_distinct) / 97
    effective = float(np.exp(-(shares * np.log(shares)).sum())) / 97
    measured = gate(effective, shares.max(), grounding_margin(scores), HUMAN)
    assert measured.verdict == "collapsed"


def test_rounding_of_identical_captions_is_no_grounding() -> None:
    noise = 3e-8 + np.random.default_rng(0).normal(0, 1e-8, 97)  # far above 0 by a t-test
    assert gate(1 / 97, 1.0, noise, HUMAN).verdict == "collapsed"


def test_the_three_other_verdicts() -> None:
    assert gate([0.8] * 3, [0.03] * 3, margins(0.05), HUMAN).verdict == "grounded"
    assert gate([0.8] * 3, [0.03] * 3, margins(0.0, 0.01), HUMAN).verdict == "ungrounded"
    assert gate([0.8] * 3, [0.03] * 3, margins(0.002, 0.2), HUMAN).verdict == "undetermined"


def test_one_collapsed_seed_of_three_is_stamped() -> None:
    verdict = gate([0.9, 0.8, 0.1], [0.03, 0.03, 0.05], margins(0.05), HUMAN)
    assert verdict.low_diversity is False
    assert "low_in_some_seeds" in verdict.stamps
    assert verdict.diversity.low_seeds == 1


def test_seeds_and_multiplicity_count() -> None:
    # Clips alone say grounded; seeds that disagree say otherwise.
    x = margins(0.02, 0.02)
    assert gate([0.9] * 3, [0.03] * 3, x, HUMAN).verdict == "grounded"
    swinging = x + np.array([[-0.08], [0.0], [0.08]])
    assert gate([0.9] * 3, [0.03] * 3, swinging, HUMAN).verdict == "undetermined"
    one = gate(0.9, 0.03, margins(0.02, seeds=1), HUMAN)
    assert "clips_only" in one.stamps
    # p = .03 alone is not enough among ten.
    sd = 0.05
    mean = 1.9 * sd / np.sqrt(97)
    weak = Candidate([0.9], [0.03], margins(mean, sd, seeds=1))
    assert gate_all({"a": weak}, HUMAN)["a"].verdict == "grounded"
    ten = gate_all({f"p{i}": weak for i in range(10)}, HUMAN)
    assert {v.verdict for v in ten.values()} == {"undetermined"}


def test_captions_drawn_blindly_are_rarely_called_grounded() -> None:
    # Eight captions handed out at random to clips that come in five categories.
    rng = np.random.default_rng(4)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    grounded = 0
    for _ in range(400):
        clips = rng.normal(size=(5, 16))[rng.integers(5, size=60)]
        clips = unit(clips + 0.5 * rng.normal(size=(60, 16)))
        captions = unit(rng.normal(size=(8, 16)))[rng.integers(8, size=60)]
        verdict = gate(0.1, 0.3, grounding_margin(captions @ clips.T), HUMAN)
        grounded += verdict.verdict == "grounded"
    assert grounded / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
