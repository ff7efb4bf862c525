"""Controls: what each of them must show if the study is to be trusted, and what it did show."""

from __future__ import annotations

from typing import Any

from siglip_study.reporting.results import ROLES, Cell

#: Figures that are shown of every control, in this order.
FIGURES = (
    "grounding_margin",
    "retrieval_r1",
    "siglip_cosine",
    "meteor_gain",
    "effective_captions",
    "top_cluster_share",
)
GAPS = ("shuffled_gap", "reversed_gap")

EXPECTATIONS: dict[str, str] = {
    "references": "D above 0: the scorer can tell a right caption from a wrong one.",
    "control_retrieval": "A bar, not a test: a projector that sees should exceed its D.",
    "control_blind": "D not above 0: language alone must not look like sight.",
    "control_noise": "D not above 0: noise in place of the video must not look like sight.",
    "control_permuted": "D not above 0: captions of other clips teach nothing about the clip.",
    "control_hot": "Low diversity and D not above 0: a run made to collapse must be caught.",
    "report": "Loss gap above 0: the reference costs more with another clip's video.",
}


def control_rows(cells: list[Cell], ranking: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the controls table: each control's figures, then the loss gaps of every report run.

    Args:
        cells: every cell of the study.
        ranking: ``ranking.json``; its ``controls`` (cell → gate verdict), if given, decides whether
            the hot control was caught. Without it the figures decide, by the default gate.
    """
    rows = []
    for cell in cells:
        if cell.role in EXPECTATIONS and cell.role != "report":
            as_expected = met(cell, ranking)
            for metric in FIGURES:
                found = cell.metrics["values"].get(metric)
                if found is not None:
                    told = as_expected if metric == "grounding_margin" else None
                    rows.append(_row(cell, metric, found, told))
        if cell.role in ("report", "control_blind", "control_noise", "control_hot"):
            for gap in GAPS:
                found = (cell.metrics.get("losses") or {}).get(gap)
                if found is not None:
                    rows.append(_row(cell, gap, found, _gap_met(cell, gap, found)))
    return rows


def met(cell: Cell, ranking: dict[str, Any]) -> bool | None:
    """Whether a control shows what it must; None for a bar or where no interval was computed."""
    low = cell.value("grounding_margin", "low")
    if cell.role == "control_retrieval":
        return None
    if cell.role == "references":
        return bool(ranking["scorer_can_tell"])
    if cell.role == "control_hot":
        verdict = (ranking.get("controls") or {}).get(cell.name)
        gate = verdict.get("gate") if isinstance(verdict, dict) else verdict
        if gate is not None:
            return gate == "collapsed"
    if low is None:
        return None
    if cell.role != "control_hot":
        return low <= 0
    value, reference = (cell.value("effective_captions", part) for part in ("value", "reference"))
    if value is None or reference is None:
        return None
    return low <= 0 and value < 0.5 * reference


def _gap_met(cell: Cell, gap: str, found: dict[str, Any]) -> bool | None:
    # A reversed gap of 0 is a finding about the projector, not a fault of the study.
    if cell.role != "report" or gap != "shuffled_gap" or found.get("low") is None:
        return None
    return bool(found["low"] > 0)


def _row(
    cell: Cell, metric: str, found: dict[str, Any], as_expected: bool | None
) -> dict[str, Any]:
    return {
        "control": ROLES[cell.role],
        "cell": cell.name,
        "role": cell.role,
        "projector": cell.projector,
        "seed": cell.seed,
        "split": cell.metrics.get("split"),
        "n_clips": cell.metrics.get("n_clips"),
        "metric": metric,
        "value": found.get("value"),
        "low": found.get("low"),
        "high": found.get("high"),
        "reference": found.get("reference"),
        "chance": found.get("chance"),
        "expectation": EXPECTATIONS[cell.role],
        "as_expected": as_expected,
    }
