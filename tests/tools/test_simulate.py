"""The procedure in worlds whose truth is known, and the common method failing the same check."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.ranking.pairs import pair_arrays
from siglip_study.ranking.variance import add_seeds, noise_of, seed_noise
from tools.pages import markers, write_tables
from tools.simulation import neighbour_trial, selection_trial
from tools.simulation.category_trial import worlds as category_worlds
from tools.simulation.draws_trial import DRAWS, SPREADS
from tools.simulation.neighbour_trial import NEIGHBOURS, Street
from tools.simulation.selection_trial import worlds as selection_worlds
from tools.simulation.simulate import (
    DESIGNS,
    METHODS,
    families,
    main,
)
from tools.simulation.trial import Outcome, evaluate, evaluate_all, moments
from tools.simulation.worlds import World, draws

WORLDS = 6000
BEGIN, END = markers("simulation")
PAGE = (Path(__file__).parents[2] / "docs/simulations.md").read_text(encoding="utf-8")
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
    World(60, 2, 3, seed_sd=2.0, noise="one noisy"),
    World(60, 2, 3, seed_sd=2.0, noise="one noisy", interaction=0.0),
    World(60, 4, 3, seed_sd=2.0, noise="one noisy"),
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
    assert holds(outcome, 0.05), outcome


def worst_kinds() -> list[tuple[World, float]]:
    """Kinds of worlds in the table of those played again, with the false orders it gives."""
    cells = [
        line.strip("| ").split(" | ")
        for line in PAGE.split("played again in")[1].split("\n\n")[1].splitlines()[2:]
    ]
    return [
        (
            replace(
                families()[family],
                n_clips=int(clips),
                n_projectors=int(p),
                n_seeds=int(s),
                seed_sd=float(sd),
            ),
            float(share) / 100,
        )
        for family, clips, p, s, sd, share, *_ in cells
    ]


@pytest.mark.parametrize("place", range(3))
def test_the_page_gives_the_false_orders_of_the_worst_kinds(place: int) -> None:
    world, told = worst_kinds()[place]
    assert evaluate(world, 2000, seed=15).false_order == pytest.approx(told, abs=0.015)


def test_few_orders_are_false_in_the_worst_kind() -> None:
    # With three projectors of which a third of all runs collapse, up to 6 % are accepted.
    for world, told in worst_kinds():
        few = world.n_projectors == 3 and world.noise == "a third collapse"
        assert told <= (0.06 if few else 0.05) + 0.001


@pytest.mark.parametrize("seed_sd", [1.0, 2.0])
def test_bootstrap_over_clips_with_one_seed_fails_the_check(seed_sd: float) -> None:
    world = replace(World(60, 4, 1, seed_sd), interaction=0.0)
    outcome = evaluate(world, 2000, seed=9, method=None)
    assert not holds(outcome, 0.05), outcome
    assert outcome.false_order > 0.15


def test_charging_the_mean_hides_a_winner_behind_a_noisy_neighbour() -> None:
    world = World(60, 4, 3, seed_sd=1.0, noise="one noisy")
    mean, floor = (evaluate(world, 2000, seed=10, method=m) for m in ("mean", "floor"))
    assert floor.false_order <= 0.05 + ERROR
    assert floor.power > mean.power + 0.1


@pytest.mark.parametrize("street", dict(neighbour_trial.streets()).values(), ids=str)
def test_a_collapsed_neighbour_takes_at_most_a_third_of_the_claims(street: Street) -> None:
    found = neighbour_trial.play(street, 1000, seed=0)
    beside = {one: found["floor", one] for one in NEIGHBOURS}
    assert (beside["one run collapsed"] >= 2 / 3 * beside["sound"]).all()
    assert (found["mean", "one run collapsed"] < 0.05).all()


def test_same_seed_same_outcome_and_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(30, 3, 2)
    assert evaluate(world, 50, seed=1) == evaluate(world, 50, seed=1)
    main(["--quick", "--worlds", "20"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| method") for line in lines) == 1
    assert any("bootstrap, one seed" in line for line in lines)
    assert any(line.startswith("| cross-fitted") for line in lines)


HEAVY = World(60, 4, 3, seed_sd=1.0, heavy=True)


def test_heavy_tails() -> None:
    outcome = evaluate(HEAVY, WORLDS, seed=11)
    assert holds(outcome, 0.05), outcome


def test_the_gate_does_not_pick_lucky_projectors() -> None:
    outcome = evaluate(World(60, 6, 3, seed_sd=1.0), WORLDS, seed=12)
    assert 0.2 < outcome.passed < 0.6
    assert outcome.false_gated <= outcome.false_order <= 0.05 + ERROR


def test_fast_moments_are_those_of_the_procedure() -> None:
    for world in (World(20, 3, 3, 2.0), World(20, 3, 2, 1.0, noise="one noisy"), replace(HEAVY)):
        (draw,) = draws(world, 7, seed=13)
        y = draw.scores(world).astype(float)
        seen = moments(draw, world.n_seeds)
        noise = seed_noise(y)
        shift = world.shifts(draw)
        fast = noise_of(seen.seed_means + shift, seen.mean_square, seen.n_groups)
        np.testing.assert_allclose(fast.own, noise.own, rtol=1e-3, atol=1e-6)
        expected = pair_arrays(y, noise)
        a_b = list(combinations(range(world.n_projectors), 2))
        for i, pair in enumerate(a_b):
            variance, df = add_seeds(seen.pair_clip[:, i], seen.n_groups, fast, pair)
            np.testing.assert_allclose(variance, expected.variance[:, i], rtol=1e-3)
            np.testing.assert_allclose(df, expected.df[:, i], rtol=1e-3)


def test_drawn_worlds_have_the_variance_they_claim() -> None:
    for world in (
        World(30, 2, 3, 1.0),
        World(30, 2, 3, 1.0, group_size=3),
        World(30, 2, 3, 1.0, "half noisy"),
    ):
        means = np.concatenate(
            [d.scores(world).mean(axis=(-2, -1)) for d in draws(world, 20_000, seed=14)]
        )
        assert (means[:, 0] - means[:, 1]).var() == pytest.approx(world.pair_variance(), rel=0.05)


def test_worlds_that_share_no_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="2 kinds"):
        evaluate_all([World(30), World(40)], 10, 0)


def test_tables_go_between_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    main(["--quick", "--worlds", "20", "--into", str(page)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n20 worlds") and text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(StudyError, match="expected one"):
        write_tables(page, {"simulation": "x"})


def test_the_documented_table_parses_and_holds_what_it_promises() -> None:
    block = PAGE.split(BEGIN)[1].split(END)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in block.splitlines()
        if line.startswith("| ")
    ]
    ranking = [r for r in rows if r[0] in METHODS]
    tuned = [r for r in rows if r[0] in DESIGNS]
    assert {len(r) for r in ranking} == {12} and {len(r) for r in tuned} == {9}
    assert {r[1] for r in ranking} == set(families())
    ours = [r for r in ranking if r[0] == "this procedure" and int(r[2]) >= 3]
    assert len(ours) == 2 * len(families())
    for r in ours:
        # The worst of 16 to 24 kinds, each with a Monte Carlo error of .5 points.
        assert float(r[4]) <= 5.0 and float(r[5]) <= 5.0 + 1.1 and float(r[6]) <= 5.0
        # Where runs collapse few seeds do not say how often.
        assert "collapse" in r[1] or "under" not in r[8] + r[10]
    categories = [r for r in rows if r[0] in dict(category_worlds())]
    assert len(categories) == len(category_worlds())
    for r in categories:
        without, asked_for = (float(x) for x in r[2].split(" → "))
        assert without > 90 and asked_for <= 5.0
        assert float(r[1].split(" → ")[1]) <= asked_for
        for kept, power in ((r[3], r[4]), (r[5], r[6])):
            assert float(kept.split(" → ")[1]) >= float(power)
    chosen = [r for r in rows if r[0] in dict(selection_worlds())]
    assert len(chosen) == len(selection_worlds())
    for r in chosen:
        (blind, now), (grounded, kept) = ([float(x) for x in r[k].split(" → ")] for k in (1, 2))
        # Passing over costs nobody the gate beyond Monte Carlo error, and gains where it can.
        assert now <= blind and kept >= grounded - 0.5
    drawn = [r for r in rows if r[0] in map(str, DRAWS) and len(r) == 5]
    assert len(drawn) == len(DRAWS) * len(SPREADS)
    # At most three Monte Carlo errors over the level.
    assert all(float(r[2]) <= 5.5 for r in drawn)
    held = [r for r in tuned if r[0] == "cross-fitted"]
    assert all("under" not in r[5] + r[6] and float(r[4]) <= 5.0 + 1.1 for r in held)
    assert max(float(r[5]) for r in ranking if r[0].startswith("bootstrap")) > 50


def test_the_documented_tables_are_of_the_code_as_it_stands() -> None:
    """A row that is cheap to play again; a gate that changed would leave the tables behind."""
    name = "the same with 24 clips of a split"
    (line,) = (row for row in PAGE.splitlines() if row.startswith(f"| {name} |"))
    outcome = selection_trial.play(dict(selection_worlds())[name], 2000, seed=0)
    documented = [float(x) for cell in line.split("|")[2:5] for x in cell.split(" → ")]
    played = [100 * x for x in (*outcome.blind, *outcome.grounded, *outcome.margin)]
    # Shares of 2,000 worlds, which another processor's last bits may tip over in one.
    assert documented == pytest.approx(played, abs=0.15)
