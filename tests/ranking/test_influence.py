"""Leaving out one group: against the tests made by hand, and studies that hang on one clip."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.ranking.pairs import Run, leave_one_out, leave_one_run_out, pair_tests

GROUPS = [f"v{g:02d}" for g in range(20)]


def table(level: float, seed: int, seeds: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, 0.1, (seeds, 20))


def test_it_is_the_ranking_without_each_group() -> None:
    scores = {"a": table(0.3, 0), "b": table(0.2, 1), "c": table(0.22, 2)}
    full = pair_tests(scores)
    again = [pair_tests({k: np.delete(v, g, axis=1) for k, v in scores.items()}) for g in range(20)]
    for i, found in enumerate(leave_one_out(scores, GROUPS)):
        assert (found.a, found.b) == (full[i].a, full[i].b)
        moved = [tests[i].difference - full[i].difference for tests in again]
        worst = int(np.argmax(np.abs(moved)))
        assert found.change == pytest.approx(moved[worst])
        assert found.change_group == GROUPS[worst]
        assert found.low == pytest.approx(min(tests[i].difference for tests in again))
        p = [(tests[i].p_holm or 0) - (full[i].p_holm or 0) for tests in again]
        assert found.p_change == pytest.approx(max(p, key=abs))
        flips = [
            g for g, t in zip(GROUPS, again, strict=True) if t[i].significant != full[i].significant
        ]
        assert list(found.flipped_by) == flips


def test_one_clip_that_makes_the_claim_is_named() -> None:
    # Nineteen groups agree, one speaks loudly against them.
    hangs = np.zeros((3, 20))
    hangs[:, 0] = -1.0
    hangs[:, 1:] = 0.1
    (without,) = leave_one_out({"a": hangs, "b": np.zeros((3, 20))}, GROUPS)
    assert not without.claimed and without.flipped_by == ("v00",)
    assert without.change_group == "v00" and without.change > 0


def test_a_solid_claim_hangs_on_nothing() -> None:
    found = leave_one_out({"a": table(0.9, 0), "b": table(0.1, 1)}, GROUPS)
    assert found[0].claimed and not found[0].flipped_by


def test_one_seed_claims_nothing_and_little_has_nothing_to_leave_out() -> None:
    (found,) = leave_one_out({"a": table(0.9, 0, 1), "b": table(0.1, 1, 1)}, GROUPS)
    assert (found.p_change, found.p_group, found.flipped_by, found.claimed) == (
        None,
        None,
        (),
        False,
    )
    assert leave_one_out({"a": table(0.9, 0)}, GROUPS) == []
    two = {"a": table(0.9, 0)[:, :2], "b": table(0.1, 1)[:, :2]}
    assert leave_one_out(two, GROUPS[:2]) == []
    with pytest.raises(StudyError, match="expected one each"):
        leave_one_out({"a": table(0.9, 0)}, ["v00"] * 20)


# ---- Leaving out one run.


def test_a_claim_at_its_edge_is_lost_without_the_runs_that_carry_it() -> None:
    rng = np.random.default_rng(3)
    runs = np.array([[0.02], [0.0], [-0.02]])
    noise = rng.normal(0, 0.05, (3, 40))
    scores = {"a": noise + runs, "b": np.zeros((3, 40)) - runs / 2}
    (test,) = pair_tests(scores)
    # Errors do not depend on the difference: shift it until it is just claimed.
    least = (test.high - test.low) / 2
    scores["a"] = scores["a"] + 1.001 * least - test.difference
    (test,) = pair_tests(scores)
    assert test.significant
    (found,) = leave_one_run_out(scores)
    without = {
        Run(label, place): np.delete(scores["a"].mean(axis=1), place if label == "a" else []).mean()
        - np.delete(scores["b"].mean(axis=1), place if label == "b" else []).mean()
        for label in "ab"
        for place in range(3)
    }
    expected = [run for run, difference in without.items() if difference < least]
    assert list(found.lost_without) == expected and 0 < len(expected) < 6
    most = max(without, key=lambda run: abs(without[run] - test.difference))
    assert found.run == most and found.claimed and not found.turned
    assert found.change == pytest.approx(without[most] - test.difference)
    assert (found.low, found.high) == pytest.approx((min(without.values()), max(without.values())))


def test_one_run_that_decides_who_is_ahead() -> None:
    # Means 1, 1 and 4 against 1.5: ahead with all three, behind without the third.
    levels = {"a": [1.0, 1.0, 4.0], "b": [1.5, 1.5, 1.5]}
    scores = {k: np.repeat(np.array(v)[:, None], 4, axis=1) for k, v in levels.items()}
    (found,) = leave_one_run_out(scores)
    assert (found.run, found.change) == (Run("a", 2), -1.0)
    assert found.turned and not found.claimed and found.lost_without == ()


@pytest.mark.parametrize("shape", [(1, 20), (3, 1)])
def test_one_run_or_one_video_leaves_nothing_to_leave_out(shape: tuple[int, int]) -> None:
    assert leave_one_run_out({"a": np.ones(shape), "b": np.zeros(shape)}) == []
