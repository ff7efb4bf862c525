"""Leaving out one group: against the tests made by hand, and studies that hang on one clip."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.ranking.pairs import leave_one_out, pair_tests

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
