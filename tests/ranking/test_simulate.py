"""The procedure in worlds whose truth is known, and the common method failing the same check."""

from __future__ import annotations

from dataclasses import replace

import pytest

from siglip_study.ranking.simulate import main
from siglip_study.ranking.worlds import Outcome, World, evaluate

WORLDS = 6000
#: Three standard errors of a share of 5 % in so many worlds.
ERROR = 3 * (0.05 * 0.95 / WORLDS) ** 0.5

EQUAL = [
    World(60, 4, 3, seed_sd=0.0, interaction=0.0),
    World(60, 4, 3, seed_sd=1.0, interaction=0.0),
    World(60, 4, 3, seed_sd=2.0, interaction=0.0),
    World(60, 4, 3, seed_sd=1.0),
    World(60, 2, 3, seed_sd=1.0),
    World(60, 2, 6, seed_sd=2.0),
    World(60, 6, 3, seed_sd=1.0),
    World(60, 4, 3, seed_sd=1.0, group_size=3),
    World(60, 4, 3, seed_sd=1.0, hubs=True),
]
UNEQUAL = [
    World(60, 2, 3, seed_sd=2.0, unequal=4.0),
    World(60, 2, 3, seed_sd=2.0, unequal=4.0, interaction=0.0),
    World(60, 4, 3, seed_sd=2.0, unequal=4.0),
]


def holds(outcome: Outcome, false_order: float) -> bool:
    """The check that the procedure must pass and a wrong method must fail."""
    return (
        outcome.false_order <= false_order + ERROR
        and outcome.false_with_winner <= false_order + ERROR
        and 0.93 <= outcome.coverage <= 0.97 + ERROR
        and 0.93 <= outcome.mean_coverage <= 0.97 + ERROR
    )


@pytest.mark.parametrize("world", EQUAL, ids=str)
def test_equal_noise(world: World) -> None:
    outcome = evaluate(world, WORLDS, seed=7)
    assert holds(outcome, 0.05), outcome
    assert outcome.power > 0.65, outcome


@pytest.mark.parametrize("world", UNEQUAL, ids=str)
def test_one_noisy_projector(world: World) -> None:
    outcome = evaluate(world, WORLDS, seed=8)
    assert outcome.false_order <= 0.07, outcome
    assert holds(outcome, 0.07), outcome


@pytest.mark.parametrize("seed_sd", [1.0, 2.0])
def test_bootstrap_over_clips_with_one_seed_fails_the_check(seed_sd: float) -> None:
    world = replace(World(60, 4, 1, seed_sd), interaction=0.0)
    outcome = evaluate(world, 2000, seed=9, method=None)
    assert not holds(outcome, 0.05), outcome
    assert outcome.false_order > 0.15


def test_plain_sum_is_too_cautious_where_seeds_change_captions() -> None:
    world = World(60, 4, 3, seed_sd=0.0, interaction=0.9)
    plain = evaluate(world, 2000, seed=10, method="simple")
    corrected = evaluate(world, 2000, seed=10)
    assert plain.coverage > corrected.coverage > 0.95
    assert plain.power < corrected.power


def test_same_seed_same_outcome_and_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(30, 3, 2)
    assert evaluate(world, 50, seed=1) == evaluate(world, 50, seed=1)
    main(["--quick", "--worlds", "20"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| method")
    assert any("bootstrap, one seed" in line for line in lines)
