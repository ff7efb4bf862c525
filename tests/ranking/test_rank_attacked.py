"""Ways to make the ranking claim more than was shown, and what it says to each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siglip_study.ranking.gate import GateThresholds, References
from siglip_study.ranking.rank import Entry, copied_runs, rank
from siglip_study.ranking.scorer_check import check_scorer

N, SEEDS = 60, 3
RNG = np.random.default_rng(0)
GROUPS = [f"v{i:02d}" for i in range(N)]
SCORER = check_scorer(0.5 * np.eye(N) + RNG.normal(0, 0.02, (N, N)), GROUPS)
HUMAN = References(0.9, 0.03, 0.5, 0.5 + RNG.normal(0, 0.02, N))


def entry(mean: float, within: float, seed: int) -> Entry:
    rng = np.random.default_rng(seed)
    margins, inside = rng.normal([[[mean]], [[within]]], 0.05, (2, SEEDS, N))
    return Entry(margins, [0.9] * SEEDS, [0.03] * SEEDS, inside)


def copied(own: Entry, runs: int = SEEDS) -> Entry:
    """The first run in place of the first ``runs``."""
    place = [0] * runs + list(range(runs, SEEDS))
    margins, within = np.asarray(own.margins)[place], np.asarray(own.within)[place]
    return replace(own, margins=margins, within=within)


@pytest.mark.parametrize("runs", [2, 3])
def test_one_run_under_several_seeds_ranks_nobody(runs: int) -> None:
    a, b = entry(0.10, 0.10, 1), entry(0.06, 0.06, 2)
    assert rank({"a": a, "b": b}, GROUPS, HUMAN, SCORER)["can_rank"]
    told = rank({"a": copied(a, runs), "b": b}, GROUPS, HUMAN, SCORER)
    assert not told["can_rank"] and not any(row["ranked"] for row in told["projectors"])
    assert "two runs of one projector (a) have the same scores on every clip" in told["verdict"]
    assert told["verdict"].startswith("No order can be claimed")


def test_captions_that_are_all_the_same_are_no_copies() -> None:
    """Their D is 0 in every run, by algebra; such a projector stops nobody else's ranking."""
    zero = Entry(np.zeros((SEEDS, N)), [0.02] * SEEDS, [1.0] * SEEDS, np.zeros((SEEDS, N)))
    told = rank({"a": entry(0.1, 0.1, 1), "zero": zero}, GROUPS, HUMAN, SCORER)
    assert told["can_rank"]
    assert copied_runs({"zero": np.zeros((2, 4)), "x": np.ones((2, 4))}) == ["x"]
    assert copied_runs({"x": np.ones((1, 4))}) == []
    assert copied_runs({"x": np.array([[1.0, 2.0], [1.0, np.nextafter(2.0, 3.0)]])}) == []


def test_the_first_is_not_said_to_exceed_who_was_refused() -> None:
    entries = {"a": entry(0.1, 0.1, 1), "loud": entry(0.3, 0.0, 2), "c": entry(0.05, 0.05, 3)}
    told = rank(entries, GROUPS, HUMAN, SCORER)
    gates = {row["projector"]: row["gate"] for row in told["projectors"]}
    assert gates == {"a": "grounded", "c": "grounded", "loud": "category_only"}
    verdict = told["verdict"]
    assert verdict.startswith("a ranks first of 2: its captions fit their clips better than those")
    assert "of every other ranked projector" in verdict
    assert verdict.endswith("; loud has a higher D and did not pass the gate.")
    low = rank({**entries, "loud": entry(0.08, 0.0, 2)}, GROUPS, HUMAN, SCORER)["verdict"]
    assert "did not pass the gate" not in low


@pytest.mark.parametrize(
    ("alpha", "level", "asks"), [(0.05, None, False), (0.3, "70 %", True), (0.025, "97.5 %", False)]
)
def test_another_level_is_said_and_a_lenient_one_warned_of(alpha, level, asks) -> None:
    entries = {"a": entry(0.1, 0.1, 1), "b": entry(0.05, 0.05, 3)}
    told = rank(entries, GROUPS, HUMAN, SCORER, thresholds=GateThresholds(alpha=alpha))
    said = [caveat for caveat in told["caveats"] if "Every test and" in caveat]
    assert len(said) == (level is not None)
    for caveat in said:
        assert (
            f"of the scorer check at {level}; those beside the metrics of one captioner" in caveat
        )
        # As the workflow does it: the scorer check has the same level, and says so.
        noise = np.random.default_rng(9).normal(0, 0.02, (N, N))
        check = check_scorer(0.5 * np.eye(N) + noise, GROUPS, alpha=alpha)
        assert f"({level.replace(' ', '')} interval" in check.sentence
        assert ("The procedure asks for 0.05" in caveat) == asks
