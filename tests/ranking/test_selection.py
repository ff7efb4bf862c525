"""Selection: highest D among those not collapsed; ties go to the cheaper."""

from __future__ import annotations

import pytest

from siglip_study.errors import StudyError
from siglip_study.ranking.selection import TuningCell, select_cells


def cell(name: str, margin: float, collapsed: bool = False, lr: float = 1e-4, epochs: float = 3):
    return TuningCell(name, name.split("_")[0], margin, collapsed, lr, epochs)


def test_highest_of_those_not_collapsed() -> None:
    chosen = select_cells([cell("mlp_a", 0.9, True), cell("mlp_b", 0.1), cell("mlp_c", 0.2)])
    assert chosen["mlp"].chosen == "mlp_c"
    assert (chosen["mlp"].n_cells, chosen["mlp"].n_collapsed) == (3, 1)
    assert not chosen["mlp"].all_collapsed


def test_all_collapsed_is_marked() -> None:
    chosen = select_cells([cell("q_a", 0.01, True), cell("q_b", 0.02, True), cell("mlp_a", -0.5)])
    assert (chosen["q"].chosen, chosen["q"].all_collapsed) == ("q_b", True)
    assert chosen["mlp"].chosen == "mlp_a"
    assert list(chosen) == ["q", "mlp"]


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


def test_bad_cells_are_named() -> None:
    with pytest.raises(StudyError, match=r"p_a.*nan"):
        select_cells([cell("p_a", float("nan"))])
    with pytest.raises(StudyError, match="'p_a' appears twice"):
        select_cells([cell("p_a", 0.1), cell("p_a", 0.2)])
    assert select_cells([]) == {}
