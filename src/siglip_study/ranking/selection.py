"""Which tuning cell of each projector is trained afresh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from siglip_study.errors import StudyError


@dataclass(frozen=True)
class TuningCell:
    """One tuning run (seed 0) as captioned on the selection split.

    ``mean_margin`` is mean D; ``collapsed`` the gate's word on it.
    """

    cell: str
    projector: str
    mean_margin: float
    collapsed: bool
    learning_rate: float
    epochs: float


@dataclass(frozen=True)
class Selection:
    """The chosen cell of one projector; ``all_collapsed`` marks a choice among collapsed ones."""

    chosen: str
    mean_margin: float
    n_cells: int
    n_collapsed: int
    all_collapsed: bool
    cells: tuple[TuningCell, ...]


def select_cells(cells: Sequence[TuningCell]) -> dict[str, Selection]:
    """Choose for each projector the cell with the highest mean D among those not collapsed.

    Where all collapsed, the highest of them is chosen and marked, so that the projector still
    appears and is gated on the report split. Ties: fewer epochs, lower rate, then name. Projectors
    keep the order in which they first appear.

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
    result = {}
    for projector, own in by_projector.items():
        best = min(
            own,
            key=lambda c: (c.collapsed, -c.mean_margin, c.epochs, c.learning_rate, c.cell),
        )
        n_collapsed = sum(cell.collapsed for cell in own)
        result[projector] = Selection(
            chosen=best.cell,
            mean_margin=best.mean_margin,
            n_cells=len(own),
            n_collapsed=n_collapsed,
            all_collapsed=n_collapsed == len(own),
            cells=tuple(own),
        )
    return result
