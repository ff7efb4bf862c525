"""Cross-fitting: who reports whom, what is pooled, and its errors where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.ranking.crossfit import FoldChoice, HalfReport, choose_by_fold, pool
from siglip_study.ranking.gate import References, Verdict
from siglip_study.ranking.pairs import pair_tests
from siglip_study.ranking.rank import rank
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.selection import TuningCell
from siglip_study.ranking.wording import Circumstances
from tools.simulation.crossfit_trial import TunedWorld, play

WORLDS = 3000
ERROR = 3 * (0.05 * 0.95 / WORLDS) ** 0.5
HUMAN = References(0.9, 0.05, 0.4)


def tuned(cell: str, projector: str, margin: float, gate: Verdict = "grounded") -> TuningCell:
    return TuningCell(cell, projector, margin, gate, 1e-4, 3)


def choices() -> dict[str, FoldChoice]:
    on_a = [
        tuned("x1", "x", 0.3),
        tuned("x2", "x", 0.2),
        tuned("y1", "y", 0.2),
        tuned("y2", "y", 0.1),
    ]
    on_b = [
        tuned("x1", "x", 0.1),
        tuned("x2", "x", 0.2),
        tuned("y1", "y", 0.2),
        tuned("y2", "y", 0.1),
    ]
    return choose_by_fold(on_a, on_b)


def reports(
    seeds: int = 3, n: tuple[int, int] = (20, 30)
) -> dict[str, tuple[HalfReport, HalfReport]]:
    rng = np.random.default_rng(0)

    def half(cell: str, clips: int, level: float, effective: float) -> HalfReport:
        table = rng.normal(level, 0.1, (seeds, clips))
        return HalfReport(cell, table, [effective] * seeds, [0.05] * seeds)

    return {
        "x": (half("x2", n[0], 0.4, 0.5), half("x1", n[1], 0.4, 1.0)),
        "y": (half("y1", n[0], 0.2, 0.8), half("y1", n[1], 0.2, 0.8)),
    }


GROUPS = ([f"a{i}" for i in range(20)], [f"b{i}" for i in range(30)])


def test_each_half_is_reported_by_the_others_choice() -> None:
    chosen = choices()
    assert chosen["x"].cells == ("x1", "x2") and not chosen["x"].agree
    assert (chosen["x"].reporter(0), chosen["x"].reporter(1)) == ("x2", "x1")
    assert chosen["y"].cells == ("y1",) and chosen["y"].agree


@pytest.mark.parametrize("word", ["collapsed", "category_only"])
def test_a_cell_refused_on_one_half_is_passed_over_there_alone(word: Verdict) -> None:
    on_a = [tuned("x1", "x", 0.3, word), tuned("x2", "x", 0.2)]
    on_b = [tuned("x1", "x", 0.3), tuned("x2", "x", 0.2)]
    choice = choose_by_fold(on_a, on_b)["x"]
    assert [fold.chosen for fold in choice.folds] == ["x2", "x1"]
    with pytest.raises(StudyError, match="x2 scored on one half only"):
        choose_by_fold(on_a, on_b[:1])


def test_pooled_table_is_both_halves_and_ranks() -> None:
    given = reports()
    pooled = pool(choices(), given, GROUPS, (HUMAN, replace(HUMAN, mean_margin=0.3)))
    table = np.asarray(pooled.entries["x"].margins)
    assert table.shape == (3, 50)
    np.testing.assert_array_equal(table[:, :20], given["x"][0].margins)
    np.testing.assert_array_equal(table[:, 20:], given["x"][1].margins)
    # 20 clips at .5 and 30 at 1.
    assert pooled.entries["x"].effective == pytest.approx([0.8] * 3)
    assert pooled.references.mean_margin == pytest.approx(0.34)
    matrix = np.eye(50) + np.random.default_rng(1).normal(0, 0.1, (50, 50))
    body = rank(
        pooled.entries,
        pooled.groups,
        pooled.references,
        check_scorer(matrix, pooled.groups),
        circumstances=Circumstances(cross_fitted=True),
    )
    assert body["n_groups"] == 50 and body["verdict"].startswith("x ranks first")
    assert any("each half is reported" in said for said in body["caveats"])


def test_margins_within_category_are_pooled_too() -> None:
    # Names of both halves interleave when sorted, and some videos have no margin.
    groups = ([f"v{2 * i:02d}" for i in range(20)], [f"v{2 * i + 1:02d}" for i in range(30)])
    rng = np.random.default_rng(4)

    def within(level: float, seeds: int, n: int) -> np.ndarray:
        table = rng.normal(level, 0.1, (seeds, n))
        table[:, ::7] = np.nan
        return table

    given = {
        label: tuple(
            replace(half, within=within(level, 3, np.shape(half.margins)[1])) for half in halves
        )
        for (label, halves), level in zip(reports().items(), (0.2, 0.0), strict=True)
    }
    human = tuple(replace(HUMAN, within=within(0.3, 1, n)[0]) for n in (20, 30))
    pooled = pool(choices(), given, groups, human)
    assert np.shape(pooled.entries["x"].within) == (3, 50)
    matrix = np.eye(50) + np.random.default_rng(1).normal(0, 0.1, (50, 50))
    body = rank(
        pooled.entries, pooled.groups, pooled.references, check_scorer(matrix, pooled.groups)
    )
    assert body["within_category"]["demanded"] and body["within_category"]["n_groups"] == 42
    rows = {row["projector"]: row for row in body["projectors"]}
    assert (rows["x"]["gate"], rows["y"]["gate"]) == ("grounded", "category_only")
    means = [np.nanmean(half.within) for half in given["x"]]
    assert rows["x"]["numbers"]["mean_margin_within"] == pytest.approx(
        (17 * means[0] + 25 * means[1]) / 42
    )


def test_one_choice_on_both_halves_is_the_ordinary_procedure() -> None:
    # Nothing about the halves is left in the figures once they are pooled.
    given = {k: v for k, v in reports().items() if k == "y"}
    both = pool({"y": choices()["y"]}, given, GROUPS, (HUMAN, HUMAN))
    y = np.asarray(both.entries["y"].margins)
    other = np.random.default_rng(2).normal(0.2, 0.1, y.shape)
    order = np.random.default_rng(3).permutation(50)
    straight = pair_tests({"y": y, "z": other})[0]
    shuffled = pair_tests({"y": y[:, order], "z": other[:, order]})[0]
    assert straight.p == pytest.approx(shuffled.p)
    assert straight.df == pytest.approx(shuffled.df)


def test_pooling_refuses_leaks_and_mismatches() -> None:
    with pytest.raises(StudyError, match="half A is reported by 'x1'; expected 'x2'"):
        swapped = {**reports(), "x": reports()["x"][::-1]}
        pool(choices(), swapped, GROUPS, (HUMAN, HUMAN))
    with pytest.raises(StudyError, match="'a0' has clips in both halves"):
        pool(choices(), reports(), (GROUPS[0], ["a0", *GROUPS[1][1:]]), (HUMAN, HUMAN))
    with pytest.raises(StudyError, match="3 seeds on half A, 2 on half B"):
        uneven = {**reports(), "y": (reports()["y"][0], reports(seeds=2)["y"][1])}
        pool(choices(), uneven, GROUPS, (HUMAN, HUMAN))
    with pytest.raises(StudyError, match=r"expected \[seeds, 20\]"):
        pool(choices(), reports(n=(19, 30)), GROUPS, (HUMAN, HUMAN))
    with pytest.raises(StudyError, match="same projectors"):
        pool(choices(), {"x": reports()["x"]}, GROUPS, (HUMAN, HUMAN))


@pytest.mark.parametrize(
    "world",
    [
        TunedWorld(60, 4),
        TunedWorld(60, 2, cell_share=0.5, seed_sd=0.0),
        TunedWorld(60, 2, n_cells=2, cell_share=0.5, seed_sd=0.0),
        TunedWorld(60, 4, cell_spread=1.0),
        TunedWorld(60, 4, seed_sd=2.0),
    ],
    ids=str,
)
def test_cross_fitting_keeps_its_promises(world: TunedWorld) -> None:
    cross = play(world, WORLDS, 5, "cross-fitted")
    half = play(world, WORLDS, 5, "one half")
    assert cross.false_order <= 0.05 + ERROR, cross
    assert 0.93 <= cross.coverage <= 0.97 + ERROR, cross
    assert 0.93 <= cross.mean_coverage <= 0.97 + ERROR, cross
    assert abs(cross.bias) < 0.08, cross
    assert cross.detectable < 0.9 * half.detectable


def test_choosing_on_the_reported_clips_is_biased() -> None:
    world = TunedWorld(60, 2, cell_share=0.5, seed_sd=0.0)
    assert play(world, WORLDS, 6, "no split").bias > 0.4
    assert play(world, 50, 6, "one half") == play(world, 50, 6, "one half")
