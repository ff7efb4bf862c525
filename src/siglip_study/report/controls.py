"""Controls: what each of them must show if the study is to be trusted, and what it did show."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl

from siglip_study.ranking.gate import GateThresholds, GateVerdict, References, gate
from siglip_study.ranking.metric_figures import MARGIN
from siglip_study.ranking.procedure import Ranking
from siglip_study.ranking.scores import group_means
from siglip_study.ranking.variance import MARGIN_ROUNDING, seed_noise, t_quantile, variance_of
from siglip_study.ranking.within import known_group_means
from siglip_study.report.language import texts
from siglip_study.report.results import ROLES, CellResult, mean, only, shared
from siglip_study.report.wording.gate import gate_reason
from siglip_study.report.wording.labels import label as say

M = MARGIN

#: Figures that are shown of every control, in this order.
FIGURES = (
    "standardised_margin",
    "grounding_margin",
    "retrieval_r1",
    "siglip_cosine",
    "meteor_gain",
    "effective_captions",
    "top_cluster_share",
)
GAPS = ("shuffled_gap", "reversed_gap")
#: Figures against clips of the same category, of every captioner that is published.
WITHIN = ("standardised_margin_within", "auc_within", "retrieval_r1_within")
#: The figures of diversity that the gate judges.
DIVERSITY = ("effective_captions", "top_cluster_share")
#: Controls that are trained, and must come out as not grounded.
MUST_FAIL = ("control_blind", "control_noise", "control_permuted", "control_hot")
#: Judged by the gate as if they were projectors; the last three train nothing.
GATED = (*MUST_FAIL, "control_untrained", "control_stage1", "control_generic", "control_category")
EXPECTATIONS = texts("expectations")


# ---- Runs of one control as the one that they are: a row for all draws of permuted captions.


def runs_by_control(cells: list[CellResult]) -> list[list[CellResult]]:
    """The controls among ``cells``, each with all of its runs."""
    runs: dict[tuple[str, str | None], list[CellResult]] = {}
    for cell in cells:
        if cell.role.startswith("control_"):
            runs.setdefault((cell.role, cell.projector), []).append(cell)
    return list(runs.values())


def joined_name(runs: list[CellResult]) -> str:
    """The name under which the runs of one control stand together: its label, without a hash."""
    return runs[0].name if len(runs) == 1 else str(runs[0].projector)


def by_group(clips: pl.DataFrame, name: str, metric: str) -> np.ndarray:
    """A margin of one cell, averaged within source videos ``[G]``; NaN where a video has none."""
    own = clips.filter(pl.col("cell") == name).sort("id")
    values = own[metric].fill_null(float("nan")).to_numpy()
    return known_group_means(values, own["group"].to_list())


def by_projector(clips: pl.DataFrame, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Projector → ``[S, G]`` of M, or of ``values`` (cell → one a clip in the order of ids)."""
    found: dict[str, list[np.ndarray]] = {}
    reports = clips.filter(pl.col("role") == "report").sort("projector", "seed", "id")
    for (label, _, cell), own in reports.group_by("projector", "seed", "cell", maintain_order=True):
        row = own[M].to_numpy() if values is None else values[str(cell)]
        found.setdefault(str(label), []).append(group_means(row, own["group"].to_list())[1])
    return {label: np.stack(rows) for label, rows in found.items()}


def join_draws(cells: list[CellResult], clips: pl.DataFrame) -> list[CellResult]:
    """``cells`` with one in place of all runs of a control, where it has several.

    Its figures are means over the runs. Intervals of single runs carry clips only, so they are
    dropped; the mean M has one of clips and draws.
    """
    together = {run.name: runs for runs in runs_by_control(cells) if len(runs) > 1 for run in runs}
    joined = []
    for cell in cells:
        runs = together.get(cell.name)
        if runs is None:
            joined.append(cell)
        elif runs[0] is cell:
            joined.append(_joined(runs, clips))
    return joined


def _joined(runs: list[CellResult], clips: pl.DataFrame) -> CellResult:
    first = runs[0]
    values = {}
    for metric, found in first.metrics["values"].items():
        # Of what the gate judges the mean over draws has an interval.
        judged = metric in (M, WITHIN[0])
        low, high = _interval(runs, clips, metric) if judged else (None, None)
        values[metric] = {
            **found,
            "value": mean([run.value(metric) for run in runs]),
            "low": low,
            "high": high,
        }
    losses: dict[str, Any] | None = None
    if all(run.metrics.get("losses") for run in runs):
        losses = {
            gap: {"value": mean([run.gap(gap) for run in runs]), "low": None, "high": None}
            for gap in first.metrics["losses"]
            if gap != "matched"
        }
        losses["matched"] = mean([run.metrics["losses"]["matched"] for run in runs])
    return dataclasses.replace(
        first,
        name=joined_name(runs),
        metrics={**first.metrics, "values": values, "losses": losses, "seed": None},
        run={**shared([run.run for run in runs]), "seed": None},
        runs=tuple(run.name for run in runs),
    )


def _interval(
    runs: list[CellResult], clips: pl.DataFrame, metric: str
) -> tuple[float | None, float | None]:
    """95 % interval of the mean over runs, as the gate bounds it; ``None`` of one source video."""
    table = np.stack([by_group(clips, run.name, metric) for run in runs])
    table = table[:, np.isfinite(table).all(axis=0)]
    if table.shape[1] < 2:
        return None, None
    means = table.mean(axis=0)
    variance, df = variance_of(means, seed_noise(table[None]), 0, own_runs=True)
    half = float(t_quantile(0.975, df) * np.sqrt(variance))
    return float(means.mean()) - half, float(means.mean()) + half


# ---- What each control must show, and did.


def gate_controls(
    cells: list[CellResult], clips: pl.DataFrame, thresholds: GateThresholds | None = None
) -> dict[str, GateVerdict]:
    """Gate verdict of each control but retrieval, judged by itself: cell → verdict.

    Runs of one control with several seeds are judged together, and share their verdict with the
    cell that stands for all of them (``join_draws``).

    Without human references nothing can be judged. ``clips`` is the table.
    """

    def margins(name: str) -> np.ndarray:
        own = clips.filter(pl.col("cell") == name).sort("id")
        return group_means(own[M].to_numpy(), own["group"].to_list())[1]

    human = only(cells, "references")
    if human is None:
        return {}
    effective, top_share, mean_margin = (human.value(metric) for metric in (*DIVERSITY, M))
    if effective is None or top_share is None or mean_margin is None:
        return {}
    within = by_group(clips, human.name, WITHIN[0])
    reference = References(effective, top_share, mean_margin, within)
    gated = [
        cell
        for cell in cells
        if cell.role in GATED and all(cell.value(metric) is not None for metric in DIVERSITY)
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
    cells: list[CellResult], ranking: Ranking, gates: dict[str, GateVerdict]
) -> list[dict[str, Any]]:
    """Rows of the controls table: each control's figures, then every run's negatives and gaps.

    ``cells`` have one for all runs of a control (:func:`join_draws`); ``gates`` are of
    :func:`gate_controls`.
    """
    rows: list[dict[str, Any]] = []
    for cell in cells:
        if cell.role not in EXPECTATIONS:
            continue
        values, losses = cell.metrics["values"], cell.metrics.get("losses") or {}
        shown = [(metric, values.get(metric), _within_met(cell, metric)) for metric in WITHIN]
        if cell.role != "report":
            met = _met(cell, ranking, gates)
            own = [(metric, values.get(metric), met if metric == M else None) for metric in FIGURES]
            shown = own + shown
        if cell.role in ("report", *GATED):
            shown += [(gap, losses.get(gap), _gap_met(cell, gap)) for gap in GAPS]
        told = gates.get(cell.name)
        within = dict.fromkeys(WITHIN, say("controls.sees_more"))
        rows += [
            {
                "control": ROLES[cell.role].en,
                "cell": cell.name,
                "role": cell.role,
                "projector": cell.projector,
                "seed": cell.seed,
                "n_runs": len(cell.runs) or 1,
                "split": cell.metrics.get("split"),
                "n_clips": cell.metrics.get("n_clips"),
                "metric": metric,
                **found,
                "gate": told and told.verdict,
                "gate_reason": told and gate_reason(told).en,
                "expectation": within.get(metric, EXPECTATIONS[cell.role]).en,
                "as_expected": as_expected,
            }
            for metric, found, as_expected in shown
            if found is not None
        ]
    return rows


def _within_met(cell: CellResult, metric: str) -> bool | None:
    """Whether a captioner of the category alone has nothing left within it; others: no test."""
    if cell.role != "control_category" or metric != WITHIN[0]:
        return None
    return abs(cell.value(metric) or 0.0) <= MARGIN_ROUNDING


def _met(cell: CellResult, ranking: Ranking, gates: dict[str, GateVerdict]) -> bool | None:
    """Whether a control shows what it must; None for a bar or where the gate could not judge."""
    if cell.role == "references":
        return ranking.scorer is None or ranking.scorer.can_tell
    told = gates.get(cell.name)
    verdict = told and told.verdict
    if cell.role == "control_category":
        # Where the gate cannot ask for M within category, nothing holds this captioner back.
        demand = ranking.within_category
        passed = demand is not None and demand.demanded and verdict == "grounded"
        known = cell.value(WITHIN[0]) is not None
        return bool(_within_met(cell, WITHIN[0])) and not passed if known else None
    if verdict is None or cell.role not in (*MUST_FAIL, "control_generic"):
        return None
    return verdict == "collapsed" if cell.role == "control_hot" else verdict != "grounded"


def _gap_met(cell: CellResult, gap: str) -> bool | None:
    # A reversed gap of 0 is a finding about the projector, not a fault of the study.
    low = cell.gap(gap, "low")
    return low > 0 if cell.role == "report" and gap == "shuffled_gap" and low is not None else None
