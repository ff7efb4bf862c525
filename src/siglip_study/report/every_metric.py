"""Every metric of every projector on one page, between what chance and what people get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siglip_study.report import words
from siglip_study.report.glossary import metric_heading, metric_rows
from siglip_study.report.results import Cell, mean, only


def every_metric(cells: list[Cell], projectors: Sequence[str]) -> dict[str, Any]:
    """Rows of all metrics that were computed, columns of chance, projectors and bars.

    Args:
        cells: every cell of the study.
        projectors: labels in the order of the ranking.

    Returns:
        ``projectors`` (column heads) and ``rows``: name, ``note`` (direction and range),
        ``tokens``, ``chance``, ``values`` in the order of ``projectors``, ``retrieval``, ``human``.
    """
    retrieval = only(cells, "control_retrieval")
    report = [cell for cell in cells if cell.role == "report"]
    runs = {label: [c for c in report if c.projector == label] for label in projectors}
    rows = []
    for known in metric_rows(cells):
        name = known["metric"]
        if known["not_computed"]:
            continue
        chance = (c.value(name, "chance") for c in report)
        rows.append(
            {
                "name": name,
                **metric_heading(name, cells),
                "chance": words.number(next((c for c in chance if c is not None), None)),
                "values": [
                    words.number(mean([c.value(name) for c in runs[p]])) for p in projectors
                ],
                "retrieval": words.number(retrieval.value(name) if retrieval else None),
                "human": words.number(known["human"]),
            }
        )
    return {"projectors": list(projectors), "rows": rows}
