"""Means of every metric with intervals, and variances by source, against values made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from siglip_study.ranking.metric_figures import metric_figures
from siglip_study.ranking.scores import components, mean_intervals

FOUR = ["v", "w", "x", "y"]


def additive(projectors: list[float], seeds: list[float], clips: list[float]) -> dict:
    """Scores that are plain sums of effects."""
    table = np.add.outer(seeds, clips)
    return {f"p{i}": table + effect for i, effect in enumerate(projectors)}


def test_sums_of_effects_are_taken_apart_exactly() -> None:
    # Variances with n − 1: seeds ±1 have 2, clips ±3 have 18, projectors 0 and 2 have 2, of which
    # the mean of two seeds explains 2/2.
    found = components(additive([0.0, 2.0], [-1.0, 1.0], [-3.0, 3.0]))
    assert found is not None
    parts = (found.projector, found.seed, found.clip, found.interaction, found.residual)
    assert parts == pytest.approx((1.0, 2.0, 18.0, 0.0, 0.0))
    # SD between projectors 1, over √(2/2) from the seeds; the clips cost all alike.
    assert found.signal_to_noise == pytest.approx(1.0)


def test_a_clip_that_suits_one_projector_is_interaction() -> None:
    first = additive([0.0], [-1.0, 1.0], [-3.0, 3.0])["p0"]
    found = components({"a": first, "b": -first})
    assert found is not None
    # a − b is ±6 between clips, with variance 72: twice that of one projector's own effects.
    assert (found.clip, found.interaction, found.residual) == pytest.approx((0.0, 36.0, 0.0))


def test_the_estimates_are_unbiased() -> None:
    true = {"projector": 4.0, "seed": 1.0, "clip": 2.0, "interaction": 1.5, "residual": 3.0}
    p, s, g = 4, 3, 12
    rng = np.random.default_rng(0)

    def effect(name: str, *shape: int) -> np.ndarray:
        return rng.normal(0, np.sqrt(true[name]), shape)

    drawn = []
    for _ in range(400):
        y = effect("projector", p, 1, 1) + effect("seed", p, s, 1) + effect("clip", 1, 1, g)
        y = y + effect("interaction", p, 1, g) + effect("residual", p, s, g)
        drawn.append(components({f"p{i}": table for i, table in enumerate(y)}))
    for name, variance in true.items():
        values = np.array([getattr(found, name) for found in drawn])
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - variance) < 4 * error, name


@pytest.mark.parametrize("shape", [(1, 4), (3, 1)])
def test_one_run_or_one_video_has_no_components(shape: tuple[int, int]) -> None:
    assert components({"a": np.ones(shape), "b": np.zeros(shape)}) is None


def test_nothing_that_varies_has_no_ratio() -> None:
    found = components({"a": np.ones((2, 3)), "b": np.ones((2, 3))})
    assert found is not None and found.signal_to_noise is None


# ---- Means.


def test_shares_that_are_all_right_keep_a_lower_bound() -> None:
    right = {"a": np.ones((3, 60)), "b": np.ones((3, 60))}
    (found, _) = mean_intervals(right, share=True)
    # Wilson's lower bound of 60 of 60 is n / (n + z²), with t of 59 degrees of freedom for z.
    z = stats.t.ppf(0.975, 59)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(60 / (60 + z**2))
    (plain, _) = mean_intervals(right)
    assert plain.low == plain.high == 1.0


def test_metrics_keep_their_order_and_only_shares_have_wilsons_interval() -> None:
    rng = np.random.default_rng(1)
    given = {
        label: {
            "standardised_margin": rng.normal(1, 0.1, (2, 4)),
            "retrieval_r1": np.ones((2, 4)),
            "bits": np.ones((2, 4)),
        }
        for label in "ab"
    }
    margin, share, bits = metric_figures(given, FOUR)
    assert [own.metric for own in (margin, share, bits)] == list(given["a"])
    plain = mean_intervals({label: own["standardised_margin"] for label, own in given.items()})
    assert margin.means == tuple(plain)
    assert (share.means[0].low or 1) < 1 and bits.means[0].low == 1.0


def test_all_projectors_are_measured_on_the_same_videos() -> None:
    nan = float("nan")
    one = np.array([[1.0, 2.0, 3.0, nan], [1.0, 2.0, 3.0, nan]])
    other = np.array([[nan, 4.0, 6.0, 8.0], [0.0, 4.0, 6.0, 8.0]])
    given = {"a": {"bits": one}, "b": {"bits": other}}
    (found,) = metric_figures(given, FOUR)
    # The second and third video alone have a value in every run.
    assert [own.mean for own in found.means] == [2.5, 5.0]
    (found,) = metric_figures(given, ["v", "v", "x", "x"])
    # A video's mean is of its clips that have a value: (1 + 2)/2 and 3; 4 or (0 + 4)/2, and 7.
    assert [own.mean for own in found.means] == [2.25, 5.0]


def test_a_metric_that_a_projector_lacks_is_left_out() -> None:
    table = np.ones((2, 4))
    empty = np.full((2, 4), np.nan)
    given = {
        "a": {"bits": table, "auc": table, "meteor": table},
        "b": {"bits": table, "auc": empty},
    }
    assert [own.metric for own in metric_figures(given, FOUR)] == ["bits"]
