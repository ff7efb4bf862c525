"""Which tuning cell of each projector is trained afresh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import Verdict

#: The gate's words, the worst first.
WORST_FIRST: tuple[Verdict, ...] = (
    "collapsed",
    "category_only",
    "ungrounded",
    "undetermined",
    "grounded",
)


@dataclass(frozen=True)
class TuningCell:
    """One tuning run (seed 0) as captioned on the selection split.

    ``mean_margin`` is mean D; ``gate`` the gate's word on it there, ``gate_reason`` its sentence.
    """

    cell: str
    projector: str
    mean_margin: float
    gate: Verdict
    learning_rate: float
    epochs: float
    gate_reason: str = ""


@dataclass(frozen=True)
class Selection:
    """The chosen cell of one projector.

    ``gate`` is the gate's word on the chosen cell, on the clips that chose it: ``collapsed`` only
    where all collapsed, ``category_only`` only where none was grounded. ``passed_over`` names the
    cells of higher D, ``n_collapsed`` and ``n_category_only`` count those that the gate called so.
    """

    chosen: str
    mean_margin: float
    gate: Verdict
    n_cells: int
    n_collapsed: int
    n_category_only: int
    passed_over: tuple[str, ...]
    cells: tuple[TuningCell, ...]


def worse(a: Verdict, b: Verdict) -> Verdict:
    """The less favourable of two verdicts."""
    return min(a, b, key=WORST_FIRST.index)


def select_cells(cells: Sequence[TuningCell]) -> dict[str, Selection]:
    """Choose for each projector the cell with the highest mean D among those not passed over.

    Passed over are collapsed cells, and those of the category alone where another cell of the
    projector is grounded. With none grounded the gate has shown no cell to do what it asks, and the
    lack of a proof in one is no reason to prefer another. Where all collapsed, the highest of them
    is chosen and marked, so that the projector still appears and is gated on the report split.
    Ties: fewer epochs, lower rate, then name. Projectors keep the order in which they first appear.

    Raises:
        StudyError: a margin is not finite, or a cell appears twice.
    """
    by_projector: dict[str, list[TuningCell]] = {}
    seen: set[str] = set()
    for cell in cells:
        if not math.isfinite(cell.mean_margin):
            raise StudyError(
                f"tuning cell '{cell.cell}': mean margin is {cell.mean_margin}; "
                "expected a finite number."
            )
        if cell.cell in seen:
            raise StudyError(f"tuning cell '{cell.cell}' appears twice; expected one row a cell.")
        seen.add(cell.cell)
        by_projector.setdefault(cell.projector, []).append(cell)
    return {projector: _select(own) for projector, own in by_projector.items()}


def _select(cells: Sequence[TuningCell]) -> Selection:
    words = [cell.gate for cell in cells]
    refused = ["collapsed", "category_only"] if "grounded" in words else ["collapsed"]

    def order(cell: TuningCell) -> tuple[object, ...]:
        return cell.gate in refused, -cell.mean_margin, cell.epochs, cell.learning_rate, cell.cell

    best = min(cells, key=order)
    return Selection(
        chosen=best.cell,
        mean_margin=best.mean_margin,
        gate=best.gate,
        n_cells=len(cells),
        n_collapsed=words.count("collapsed"),
        n_category_only=words.count("category_only"),
        passed_over=tuple(c.cell for c in cells if c.mean_margin > best.mean_margin),
        cells=tuple(cells),
    )
