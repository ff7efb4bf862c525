"""The projectors under every metric, and beside the published study. Only M ranks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.metrics import METRICS
from siglip_study.ranking.gate import GateThresholds, gate_by_diversity_alone
from siglip_study.ranking.orders import metric_orders
from siglip_study.ranking.procedure import Ranking
from siglip_study.report import words
from siglip_study.report.controls import M
from siglip_study.report.language import NOTHING, Text, join
from siglip_study.report.results import ROLES, CellResult, mean, only, report_runs
from siglip_study.report.wording.claims import metric_orders_sentence
from siglip_study.report.wording.gate import published_name, published_reason
from siglip_study.report.wording.metrics import NAMES, as_written

# ---- Every metric: what it means, and what each projector has of it.

#: The tokenizer of metrics that a model computes, as ``metrics.json`` names it.
MODEL_TOKENS = "the model's own"


def metric_rows(cells: list[CellResult]) -> list[dict[str, Any]]:
    """Rows of the ``metrics`` table: every metric that any cell carries, as it was computed.

    Those that no cell could compute stand with the reason, and without a tokenizer.
    """
    computed: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for cell in cells:
        computed = {**cell.metrics["metrics"], **computed}
        missing = {**(cell.metrics.get("not_computed") or {}), **missing}
    references = only(cells, "references")
    order = {name: place for place, name in enumerate(METRICS)}
    rows = []
    for name in sorted({*computed, *missing}, key=lambda n: (order.get(n, len(order)), n)):
        # A metric that was not computed still has a range and a direction.
        known = METRICS[name].as_json(None) if name in METRICS else {}
        rows.append(
            {
                "metric": name,
                "definition": METRICS[name].description if name in METRICS else "",
                **computed.get(name, known),
                "human": references.value(name) if references else None,
                "not_computed": None if name in computed else missing[name],
            }
        )
    return rows


def metric_heading(row: dict[str, Any]) -> dict[str, Any]:
    """What stands under the name of a metric, a row of the ``metrics`` table, at its column:
    direction and range, and its tokens; a reader need not hover."""
    tokens = row["tokenizer"] or ""
    return {
        "note": join(
            ", ",
            [words.direction(row["higher_is_better"]), words.value_range(row["min"], row["max"])],
        ),
        # Versions and normal forms are in the glossary; a column has room for the kind of token.
        "tokens": NOTHING
        if tokens == MODEL_TOKENS
        else as_written(re.sub(r" \(.*\)| [\d.]+,", "", tokens)),
    }


#: Of a mean that has no interval.
NO_BOUNDS: dict[str, float | None] = {"low": None, "high": None}


def mean_bounds(ranking: Ranking) -> dict[tuple[str, str], dict[str, float | None]]:
    """``low`` and ``high`` of a mean by metric and projector, clips and seeds in them."""
    return {
        (own.metric, found.label): {"low": found.low, "high": found.high}
        for own in ranking.metrics
        for found in own.means
    }


def every_metric(
    metrics: list[dict[str, Any]], cells: list[CellResult], projectors: list[str], ranking: Ranking
) -> list[dict[str, Any]]:
    """Rows of the ``metrics`` table that were computed, each with ``chance``, ``retrieval`` and
    ``means``: ``value``, ``low`` and ``high`` of the report runs, in the order of ``projectors``;
    metrics that have no value a clip have no interval."""
    known_bounds = mean_bounds(ranking)
    retrieval = only(cells, "control_retrieval")
    runs = report_runs(cells)
    rows = []
    for known in metrics:
        if known["not_computed"]:
            continue
        name = known["metric"]
        chances = [cell.value(name, "chance") for cell in cells if cell.role == "report"]
        rows.append(
            {
                **known,
                "chance": next((chance for chance in chances if chance is not None), None),
                "means": [
                    {
                        "value": mean([c.value(name) for c in runs.get(p, ())]),
                        **known_bounds.get((name, p), NO_BOUNDS),
                    }
                    for p in projectors
                ],
                "retrieval": retrieval.value(name) if retrieval else None,
            }
        )
    return rows


# ---- The order that another measure would have given.

KAPPA = "kappa"

#: Measures that are compared, higher being better in each.
MEASURES = (
    M, "grounding_margin", "auc", "bits", "meteor_gain", "cider_gain", "bertscore_f1", KAPPA,
)  # fmt: skip


def sensitivity_rows(cells: list[CellResult], ranking: Ranking) -> list[dict[str, Any]]:
    """Rows of the ``sensitivity`` table: one a measure and projector, report runs only.

    Means of κ have no interval.
    """
    known = mean_bounds(ranking)
    values = {
        metric: {
            label: mean([_value(cell, metric) for cell in own])
            for label, own in report_runs(cells).items()
        }
        for metric in MEASURES
    }
    return [
        {
            "metric": order.metric,
            "projector": label,
            "value": order.values[label],
            **known.get((order.metric, label), NO_BOUNDS),
            "rank_by_mean": order.ranks[label],
            "same_top": order.same_top,
            "kendall_tau": order.tau,
        }
        for order in metric_orders(values, M)
        for label in sorted(order.ranks, key=lambda name: (order.ranks[name], name))
    ]


def _value(cell: CellResult, metric: str) -> float | None:
    if metric == KAPPA:
        truth = cell.metrics.get("truth") or {}
        return mean([found.get("kappa") for found in truth.values()])
    return cell.value(metric)


def sensitivity_view(rows: list[dict[str, Any]], projectors: list[str]) -> dict[str, Any] | None:
    """View of the ``sensitivity`` table, or None where there is nothing to compare.

    A row of the view is a measure; ``cells`` are its rows of the table in the order of
    ``projectors``, None where there is none.
    """
    by_metric: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], {})[row["projector"]] = row
    if len(by_metric) < 2 or len(projectors) < 2:
        return None
    orders = metric_orders(
        {m: {label: r["value"] for label, r in found.items()} for m, found in by_metric.items()}, M
    )
    return {
        "rows": [
            {
                "metric": metric,
                "label": NAMES[metric],
                "lead": metric == M,
                "cells": [found.get(p) for p in projectors],
                "same_top": next(iter(found.values()))["same_top"],
                "top": tuple(p for p, row in found.items() if row["rank_by_mean"] == 1),
                "tau": next(iter(found.values()))["kendall_tau"],
            }
            for metric, found in by_metric.items()
        ],
        "missing": [NAMES[metric] for metric in MEASURES if metric not in by_metric],
        "sentence": metric_orders_sentence(orders, M, NAMES),
    }


# ---- The published study's figures as reference rows: never re-measured, never ranked.

#: Our figures that stand under the published ones, by recipe: columns of ``cells``.
BESIDE = ("siglip_published", "distinct_ratio", "meteor_words")


def published_view(
    path: Path | None, cells: list[dict[str, Any]], gate: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Published runs, and below them this study's figures by the same recipes; None without a file.

    Raises:
        StudyError: the file is there and is not the JSON that is expected.
    """
    if path is None or not path.is_file():
        return None
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        rows = [_published(run, gate or {}) for run in runs]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: expected published runs under 'runs' ({error!r}).") from None
    return {"rows": rows, "own": own_figures(cells, BESIDE)}


def own_figures(cells: list[dict[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Figures of the human captions and of each projector, its mean over its report seeds.

    Rows with a ``label`` and a value, or None, under each of ``metrics``, columns of ``cells``.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        if cell["role"] == "references":
            groups.setdefault("references", []).append(cell)
        elif cell["role"] == "report":
            groups.setdefault(str(cell["projector"]), []).append(cell)
    return [
        {
            "label": ROLES.get(label, Text.same(label)),
            **{name: mean([row[name] for row in found]) for name in metrics},
        }
        for label, found in groups.items()
    ]


def _published(run: dict[str, Any], gate: Mapping[str, Any]) -> dict[str, Any]:
    final = run.get("final") or {}
    diversity = final.get("diversity", (run["stage2"].get("diversity") or [None])[-1])
    verdict = None
    if diversity is not None:
        verdict = gate_by_diversity_alone(diversity, thresholds=GateThresholds(**gate))
    return {
        "id": run["id"],
        "projector": run["projector"],
        "named": run.get("name_in_report") or run["projector"],
        "parameters": run["projector_params"],
        "claimed": run.get("params_in_report") or "–",
        "siglip": final.get("siglip", (run["stage2"].get("siglip") or [None])[-1]),
        "diversity": diversity,
        "meteor": final.get("meteor"),
        "wall": final.get("wall") or "–",
        "verdict": verdict.verdict if verdict else None,
        "label": published_name(verdict),
        "reason": published_reason(verdict),
        "finished": bool(run["stage2"].get("finished")),
    }
