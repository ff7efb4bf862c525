"""Every metric of every projector on one page, between what chance and what people get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siglip_study.reporting import words
from siglip_study.reporting.glossary import metric_heading, metric_rows
from siglip_study.reporting.results import Cell, only


def every_metric(cells: list[Cell], ranking: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows of all metrics that were computed, columns of chance, projectors and bars.

    Args:
        cells: every cell of the study.
        ranking: the ``ranking`` table, which has the mean over report seeds of each metric.

    Returns:
        ``projectors`` (column heads) and ``rows``: name, ``note`` (direction and range),
        ``tokens``, ``chance``, ``values`` in the order of ``projectors``, ``retrieval``, ``human``.
    """
    retrieval = only(cells, "control_retrieval")
    report = [cell for cell in cells if cell.role == "report"]
    rows = []
    for known in metric_rows(cells):
        name = known["metric"]
        if known["not_computed"]:
            continue
        chance = (cell.value(name, "chance") for cell in report)
        rows.append(
            {
                "name": name,
                **metric_heading(name, cells),
                "chance": words.number(next((c for c in chance if c is not None), None)),
                "values": [words.number(row.get(name)) for row in ranking],
                "retrieval": words.number(retrieval.value(name) if retrieval else None),
                "human": words.number(known["human"]),
            }
        )
    return {"projectors": [row["projector"] for row in ranking], "rows": rows}
