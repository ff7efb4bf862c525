"""Selection: highest D among those not passed over; ties go to the cheaper."""

from __future__ import annotations

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import Verdict
from siglip_study.ranking.selection import TuningCell, select_cells, worse


def cell(
    name: str, margin: float, gate: Verdict = "grounded", lr: float = 1e-4, epochs: float = 3
) -> TuningCell:
    return TuningCell(name, name.split("_")[0], margin, gate, lr, epochs)


@pytest.mark.parametrize(
    ("cells", "chosen", "passed_over"),
    [
        # The highest of those that did not collapse; where all did, the highest.
        ([("a", 0.9, "collapsed"), ("b", 0.1, "grounded"), ("c", 0.2, "grounded")], "c", "a"),
        ([("a", 0.01, "collapsed"), ("b", 0.02, "collapsed")], "b", ""),
        ([("a", -0.5, "undetermined")], "a", ""),
        # One of the category alone gives way to a grounded one, if that has the lower margin.
        (
            [
                ("a", 0.9, "category_only"),
                ("b", 0.2, "grounded"),
                ("c", 0.1, "grounded"),
                ("d", 0.05, "category_only"),
            ],
            "b",
            "a",
        ),
        ([("a", 0.3, "grounded"), ("b", 0.2, "category_only")], "a", ""),
        # An undetermined one has shown less than one that tells categories apart, not more.
        (
            [("a", 0.3, "category_only"), ("b", 0.1, "undetermined"), ("c", 0.4, "collapsed")],
            "a",
            "c",
        ),
        ([("a", 0.1, "category_only"), ("b", 0.3, "undetermined")], "b", ""),
    ],
)
def test_the_highest_of_those_not_passed_over(cells, chosen, passed_over) -> None:
    (own,) = select_cells([cell(f"p_{name}", *rest) for name, *rest in cells]).values()
    gates = {f"p_{name}": gate for name, _, gate in cells}
    assert (own.chosen, own.gate) == (f"p_{chosen}", gates[f"p_{chosen}"])
    assert own.passed_over == tuple(f"p_{name}" for name in passed_over)
    counts = [list(gates.values()).count(word) for word in ("collapsed", "category_only")]
    assert [own.n_cells, own.n_collapsed, own.n_category_only] == [len(cells), *counts]


def test_another_projectors_grounded_cell_passes_over_nothing() -> None:
    chosen = select_cells([cell("q_a", 0.1), cell("p_a", 0.3, "category_only")])
    assert list(chosen) == ["q", "p"]
    assert chosen["p"].chosen == "p_a"


def test_the_worse_of_two_words() -> None:
    assert worse("grounded", "category_only") == worse("category_only", "grounded")
    assert worse("undetermined", "collapsed") == "collapsed"


def test_ties() -> None:
    cells = [
        cell("p_d", 0.2, lr=1e-4, epochs=6),
        cell("p_c", 0.2, lr=5e-4, epochs=3),
        cell("p_b", 0.2, lr=1e-4, epochs=3),
        cell("p_a", 0.2, lr=1e-4, epochs=3),
    ]
    assert select_cells(cells)["p"].chosen == "p_a"
    assert select_cells(cells[:3])["p"].chosen == "p_b"
    assert select_cells(cells[:2])["p"].chosen == "p_c"
    tied = [cell("p_a", 0.2, "category_only", epochs=1), cell("p_b", 0.2)]
    assert select_cells(tied)["p"].chosen == "p_b"


def test_bad_cells_are_named() -> None:
    with pytest.raises(StudyError, match=r"p_a.*nan"):
        select_cells([cell("p_a", float("nan"))])
    with pytest.raises(StudyError, match="'p_a' appears twice"):
        select_cells([cell("p_a", 0.1), cell("p_a", 0.2)])
    assert select_cells([]) == {}
