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


def test_highest_of_those_not_collapsed() -> None:
    chosen = select_cells([cell("mlp_a", 0.9, "collapsed"), cell("mlp_b", 0.1), cell("mlp_c", 0.2)])
    assert chosen["mlp"].chosen == "mlp_c" and chosen["mlp"].gate == "grounded"
    assert (chosen["mlp"].n_cells, chosen["mlp"].n_collapsed) == (3, 1)
    assert chosen["mlp"].passed_over == ("mlp_a",)


def test_all_collapsed_is_marked() -> None:
    chosen = select_cells(
        [
            cell("q_a", 0.01, "collapsed"),
            cell("q_b", 0.02, "collapsed"),
            cell("mlp_a", -0.5, "undetermined"),
        ]
    )
    assert (chosen["q"].chosen, chosen["q"].gate) == ("q_b", "collapsed")
    assert chosen["mlp"].chosen == "mlp_a"
    assert list(chosen) == ["q", "mlp"]


def test_a_cell_of_the_category_alone_is_passed_over_for_a_grounded_one() -> None:
    own = select_cells(
        [
            cell("p_loud", 0.9, "category_only"),
            cell("p_sees", 0.2),
            cell("p_faint", 0.1),
            cell("p_low", 0.05, "category_only"),
        ]
    )["p"]
    assert (own.chosen, own.gate, own.n_category_only) == ("p_sees", "grounded", 2)
    assert own.passed_over == ("p_loud",)


def test_with_none_grounded_the_highest_is_chosen_and_marked() -> None:
    """An undetermined cell has shown less than one that tells categories apart, not more."""
    own = select_cells(
        [
            cell("p_a", 0.3, "category_only"),
            cell("p_b", 0.1, "undetermined"),
            cell("p_c", 0.4, "collapsed"),
        ]
    )["p"]
    assert (own.chosen, own.gate, own.passed_over) == ("p_a", "category_only", ("p_c",))
    higher = select_cells([cell("p_a", 0.1, "category_only"), cell("p_b", 0.3, "undetermined")])
    assert higher["p"].chosen == "p_b"


def test_another_projectors_grounded_cell_passes_over_nothing() -> None:
    chosen = select_cells([cell("p_a", 0.3, "category_only"), cell("q_a", 0.1)])
    assert chosen["p"].chosen == "p_a"


def test_a_grounded_cell_of_higher_margin_needs_no_passing_over() -> None:
    own = select_cells([cell("p_a", 0.3), cell("p_b", 0.2, "category_only")])["p"]
    assert (own.chosen, own.passed_over, own.n_category_only) == ("p_a", (), 1)


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
