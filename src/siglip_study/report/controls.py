"""Controls: what each of them must show if the study is to be trusted, and what it did show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from siglip_study.metrics.registry import WITHIN_CATEGORY
from siglip_study.report.permuted_control import by_group, joined_name, runs_by_control
from siglip_study.report.results import ROLES, Cell, only

if TYPE_CHECKING:
    from siglip_study.ranking.gate import GateVerdict
    from siglip_study.ranking.gate_inputs import GateThresholds

D = "grounding_margin"

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
#: Figures against clips of the same category, of every captioner that is published.
WITHIN = WITHIN_CATEGORY
#: Controls that must come out as not grounded.
MUST_FAIL = ("control_blind", "control_noise", "control_permuted", "control_hot")
#: Judged by the gate as if they were projectors; the last two train nothing.
GATED = (*MUST_FAIL, "control_untrained", "control_generic", "control_category")
SEES_MORE = "Above 0: more is seen than the category."

EXPECTATIONS: dict[str, str] = {
    "references": "D above 0: the scorer can tell a right caption from a wrong one.",
    "control_retrieval": "A bar, not a test: a projector that sees should exceed its D.",
    "control_generic": "Must not come out grounded: one caption for all has D = 0, whatever its"
    " SigLIP.",
    "control_category": "Must not come out grounded: it knows the category and no more, so its D"
    " within the category is 0.",
    "control_blind": "Must not come out grounded: language alone must not look like sight.",
    "control_noise": "Must not come out grounded: noise must not look like sight.",
    "control_permuted": "Must not come out grounded, all draws together: by chance, one draw of"
    " other clips' captions may fit.",
    "control_hot": "Must come out collapsed: it was made to, and the gate must catch it.",
    "control_untrained": "A secondary bar, not a test: what adapters make of random projections.",
    "report": "Loss gap above 0: the reference costs more with another clip's video.",
}


def gate_controls(
    cells: list[Cell], clips: pl.DataFrame, thresholds: GateThresholds | None = None
) -> dict[str, GateVerdict]:
    """Gate verdict of each control but retrieval, judged by itself: cell → verdict.

    Runs of one control with several seeds are judged together, and share their verdict with the
    cell that stands for all of them (``draws.join_draws``).

    Args:
        cells: every cell of the study; without human references nothing can be judged.
        clips: the ``clips`` table.
        thresholds: of the gate; its defaults if absent.
    """
    import numpy as np

    from siglip_study.ranking.gate import gate
    from siglip_study.ranking.gate_inputs import References
    from siglip_study.ranking.scores import group_means

    human = only(cells, "references")
    if human is None:
        return {}
    figures = [human.value(name) for name in ("effective_captions", "top_cluster_share", D)]
    if None in figures:
        return {}

    def margins(name: str) -> np.ndarray:
        own = clips.filter(pl.col("cell") == name).sort("id")
        return group_means(own[D].to_numpy(), own["group"].to_list())[1]

    reference = References(
        effective=float(figures[0] or 0.0),
        top_share=float(figures[1] or 0.0),
        mean_margin=float(figures[2] or 0.0),
        within=by_group(clips, human.name, WITHIN[0]),
    )
    gated = [
        cell
        for cell in cells
        if cell.role in GATED
        and None not in (cell.value("effective_captions"), cell.value("top_cluster_share"))
    ]
    verdicts = {}
    for runs in runs_by_control(gated):
        told = gate(
            np.array([run.value("effective_captions") for run in runs], dtype=float),
            np.array([run.value("top_cluster_share") for run in runs], dtype=float),
            [margins(run.name) for run in runs],
            reference,
            thresholds,
            runs[0].name,
            [by_group(clips, run.name, WITHIN[0]) for run in runs],
        )
        verdicts.update(dict.fromkeys([joined_name(runs), *(run.name for run in runs)], told))
    return verdicts


def control_rows(
    cells: list[Cell],
    ranking: dict[str, Any],
    gates: dict[str, str],
    reasons: dict[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Rows of the controls table: each control's figures, then every run's negatives and gaps.

    Args:
        cells: every cell of the study, one for all runs of a control (``draws.join_draws``).
        ranking: ``ranking.json``.
        gates: cell → verdict, from :func:`gate_controls`.
        reasons: cell → the sentence with the numbers that made it.
    """
    told_why = reasons or {}
    rows: list[dict[str, Any]] = []
    for cell in cells:
        if cell.role in EXPECTATIONS and cell.role != "report":
            as_expected = _met(cell, ranking, gates)
            for metric in FIGURES:
                found = cell.metrics["values"].get(metric)
                if found is not None:
                    told = as_expected if metric == D else None
                    rows.append(_row(cell, metric, found, told, gates))
        if cell.role in EXPECTATIONS:
            for metric in WITHIN:
                found = cell.metrics["values"].get(metric)
                if found is not None:
                    rows.append(_row(cell, metric, found, _within_met(cell, metric), gates))
        if cell.role == "report" or cell.role in GATED:
            for gap in GAPS:
                found = (cell.metrics.get("losses") or {}).get(gap)
                if found is not None:
                    rows.append(_row(cell, gap, found, _gap_met(cell, gap, found), gates))
    for row in rows:
        row["gate_reason"] = told_why.get(row["cell"])
    return rows


def _within_met(cell: Cell, metric: str) -> bool | None:
    """Whether a captioner of the category alone has nothing left within it; others: no test."""
    if cell.role != "control_category" or metric != WITHIN[0]:
        return None
    from siglip_study.ranking.one_sided import MARGIN_ROUNDING

    return abs(cell.value(metric) or 0.0) <= MARGIN_ROUNDING


def _met(cell: Cell, ranking: dict[str, Any], gates: dict[str, str]) -> bool | None:
    """Whether a control shows what it must; None for a bar or where the gate could not judge."""
    if cell.role == "references":
        return bool(ranking["scorer_can_tell"])
    verdict = gates.get(cell.name)
    if cell.role == "control_category":
        # Where the gate cannot ask for D within category, nothing holds this captioner back.
        asked = (ranking.get("within_category") or {}).get("demanded")
        passed = bool(asked) and verdict == "grounded"
        known = cell.value(WITHIN[0]) is not None
        return bool(_within_met(cell, WITHIN[0])) and not passed if known else None
    if verdict is None or cell.role not in (*MUST_FAIL, "control_generic"):
        return None
    return verdict == "collapsed" if cell.role == "control_hot" else verdict != "grounded"


def _gap_met(cell: Cell, gap: str, found: dict[str, Any]) -> bool | None:
    # A reversed gap of 0 is a finding about the projector, not a fault of the study.
    if cell.role != "report" or gap != "shuffled_gap" or found.get("low") is None:
        return None
    return bool(found["low"] > 0)


def _row(
    cell: Cell,
    metric: str,
    found: dict[str, Any],
    as_expected: bool | None,
    gates: dict[str, str],
) -> dict[str, Any]:
    return {
        "control": ROLES[cell.role],
        "cell": cell.name,
        "role": cell.role,
        "projector": cell.projector,
        "seed": cell.seed,
        "n_runs": len(cell.runs) or 1,
        "split": cell.metrics.get("split"),
        "n_clips": cell.metrics.get("n_clips"),
        "metric": metric,
        "value": found.get("value"),
        "low": found.get("low"),
        "high": found.get("high"),
        "reference": found.get("reference"),
        "chance": found.get("chance"),
        "gate": gates.get(cell.name),
        "expectation": SEES_MORE if metric in WITHIN else EXPECTATIONS[cell.role],
        "as_expected": as_expected,
    }
