"""What every figure of the page means, in one sentence each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from siglip_study.report import words
from siglip_study.report.results import CellResult, mean, only

#: The tokenizer of metrics that a model computes, as ``metrics.json`` names it.
MODEL_TOKENS = "the model's own"

#: Figures of the page that are no metric of captions.
TERMS: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "shuffled_gap",
        "Loss of the reference caption with another clip's video minus with its own: the most "
        "sensitive sign that the video is used.",
        "higher is better",
        "−∞ to ∞",
        "nats a token",
    ),
    (
        "reversed_gap",
        "The same with the own frames in reverse: is the order of frames used?",
        "higher is better",
        "−∞ to ∞",
        "nats a token",
    ),
    (
        "κ (kappa)",
        "(accuracy − majority) / (1 − majority) of facts parsed from captions; demo only.",
        "higher is better",
        "−∞ to 1",
        "1",
    ),
)


def metric_heading(name: str, cells: list[CellResult]) -> dict[str, str]:
    """What stands under a metric's name at its column: direction and range, and its tokens.

    All three are those that the metric was computed with; a reader need not hover.
    """
    from siglip_study.metrics.base import METRICS

    known = METRICS[name].as_json(None) if name in METRICS else {}
    info = next((c.metrics["metrics"][name] for c in cells if name in c.metrics["metrics"]), known)
    tokens = str(info.get("tokenizer") or "")
    # Versions and normal forms are in the glossary; a column has room for the kind of token.
    kind = "" if tokens == MODEL_TOKENS else re.sub(r" \(.*\)| [\d.]+,", "", tokens)
    return {"note": f"{direction(info.get('higher_is_better'))}, {_range(info)}", "tokens": kind}


def _range(info: dict[str, Any]) -> str:
    return f"{_bound(info.get('min'), '−∞')} to {_bound(info.get('max'), '∞')}"


def metric_rows(cells: list[CellResult]) -> list[dict[str, Any]]:
    """Rows of the ``metrics`` table: every metric that any cell carries, as it was computed.

    Those that no cell could compute stand with the reason, and without a tokenizer.
    """
    from siglip_study.metrics.base import METRICS

    infos: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for cell in cells:
        for name, info in cell.metrics["metrics"].items():
            infos.setdefault(name, info)
        for name, why in (cell.metrics.get("not_computed") or {}).items():
            missing.setdefault(name, why)
    references = only(cells, "references")
    order = {name: place for place, name in enumerate(METRICS)}
    rows = []
    for name in sorted({*infos, *missing}, key=lambda n: (order.get(n, len(order)), n)):
        # A metric that was not computed still has a range and a direction.
        known = METRICS[name].as_json(None) if name in METRICS else {}
        rows.append(
            {
                "metric": name,
                "definition": METRICS[name].description if name in METRICS else "",
                **infos.get(name, known),
                "human": references.value(name) if references else None,
                "not_computed": missing.get(name) if name not in infos else None,
            }
        )
    return rows


def glossary_rows(cells: list[CellResult]) -> list[dict[str, Any]]:
    """Every metric that any cell carries, with its definition, range, direction and tokenizer."""
    rows = [
        {
            "name": row["metric"],
            "definition": row["definition"],
            "direction": direction(row.get("higher_is_better")),
            "range": _range(row),
            "unit": row.get("unit") or "–",
            "tokenizer": row.get("tokenizer") or "–",
            "version": row.get("version") or "–",
            "human": words.number(row["human"]),
            "not_computed": row["not_computed"],
        }
        for row in metric_rows(cells)
    ]
    for name, definition, toward, bounds, unit in TERMS:
        rows.append(
            {
                "name": name,
                "definition": definition,
                "direction": toward,
                "range": bounds,
                "unit": unit,
                "tokenizer": "–",
                "version": "–",
                "human": "–",
                "not_computed": None,
            }
        )
    return rows


def direction(higher_is_better: bool | None) -> str:
    """The direction of a metric in words."""
    if higher_is_better is None:
        return "neither"
    return "higher is better" if higher_is_better else "lower is better"


def _bound(value: float | None, unbounded: str) -> str:
    return unbounded if value is None else f"{value:g}".replace("-", "−")


# ---- Every metric of every projector on one page, between what chance and what people get.


def every_metric(cells: list[CellResult], projectors: Sequence[str]) -> dict[str, Any]:
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
