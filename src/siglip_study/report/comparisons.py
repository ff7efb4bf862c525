"""The projectors under other measures than the one that ranks, and beside the published study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siglip_study.base.errors import StudyError
from siglip_study.ranking.orders import metric_orders
from siglip_study.report import wording, words
from siglip_study.report.glossary import metric_heading
from siglip_study.report.results import CellResult, mean

if TYPE_CHECKING:
    from siglip_study.ranking.pairs import PairInfluence


D = "grounding_margin"
KAPPA = "kappa"

#: Measures that are compared, higher being better in each, with the digits they are shown with.
MEASURES: dict[str, tuple[str, int]] = {
    D: ("Grounding D", 4),
    "bits": ("Bits", 3),
    "meteor_gain": ("METEOR gain", 3),
    "cider_gain": ("CIDEr gain", 3),
    "bertscore_f1": ("BERTScore", 3),
    KAPPA: ("κ, mean of attributes", 3),
}


def sensitivity_rows(cells: list[CellResult]) -> list[dict[str, Any]]:
    """Rows of the ``sensitivity`` table: one a measure and projector, report runs only."""
    labels = list(dict.fromkeys(str(c.projector) for c in cells if c.role == "report"))
    runs = {
        label: [c for c in cells if c.role == "report" and c.projector == label] for label in labels
    }
    values = {
        metric: {
            label: mean([_value(cell, metric) for cell in found]) for label, found in runs.items()
        }
        for metric in MEASURES
    }
    rows = []
    for order in metric_orders(values, D):
        for label in sorted(order.ranks, key=lambda name: (order.ranks[name], name)):
            rows.append(
                {
                    "metric": order.metric,
                    "projector": label,
                    "value": order.values[label],
                    "rank_by_mean": order.ranks[label],
                    "same_top": order.same_top,
                    "kendall_tau": order.tau,
                }
            )
    return rows


def _value(cell: CellResult, metric: str) -> float | None:
    if metric == KAPPA:
        truth = cell.metrics.get("truth") or {}
        return mean([found.get("kappa") for found in truth.values()])
    return cell.value(metric)


def sensitivity_view(
    rows: list[dict[str, Any]],
    projectors: list[str],
    influence: Sequence[PairInfluence] = (),
    cells: list[CellResult] | None = None,
) -> dict[str, Any] | None:
    """View of the sensitivity table, or None where there is nothing to compare.

    Args:
        rows: the ``sensitivity`` table.
        projectors: labels in the order of the ranking table.
        influence: of single groups on the pairs.
        cells: every cell of the study, for the tokens that a measure was computed on.
    """
    by_metric: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], {})[row["projector"]] = row
    if len(by_metric) < 2 or len(projectors) < 2:
        return None
    orders = metric_orders(
        {m: {label: r["value"] for label, r in found.items()} for m, found in by_metric.items()}, D
    )
    table = []
    for metric, found in by_metric.items():
        label, digits = MEASURES[metric]
        first = next(iter(found.values()))
        table.append(
            {
                "label": label,
                "tokens": metric_heading(metric, cells or [])["tokens"],
                "lead": metric == D,
                "cells": [
                    {
                        "value": words.number(found[p]["value"], digits),
                        "rank": found[p]["rank_by_mean"],
                    }
                    if p in found
                    else {"value": "–", "rank": "–"}
                    for p in projectors
                ],
                "same_top": first["same_top"],
                "tau": words.number(first["kendall_tau"], 2),
            }
        )
    return {
        "projectors": projectors,
        "rows": table,
        "missing": [MEASURES[m][0] for m in MEASURES if m not in by_metric],
        "sentence": wording.metric_orders_sentence(
            orders, D, {m: n for m, (n, _) in MEASURES.items()}
        ),
        "influence": _influence(influence),
    }


def _influence(found: Sequence[PairInfluence]) -> dict[str, Any] | None:
    """Rows of leave-one-group-out, or None where no group could be left out."""
    if not found:
        return None
    return {
        "sentence": wording.influence(found),
        "rows": [
            {
                "pair": f"{p.a} − {p.b}",
                "low": words.number(p.low, 4),
                "high": words.number(p.high, 4),
                "change": words.number(p.change, 4),
                "group": p.change_group,
                "p_change": words.number(p.p_change),
                "claimed": "yes" if p.claimed else "no",
                "flips": len(p.flipped_by),
                "flipped_by": ", ".join(p.flipped_by[:3])
                + (", …" if len(p.flipped_by) > 3 else ""),
            }
            for p in found
        ],
    }


# ---- The published study's figures as reference rows: never re-measured, never ranked.

#: Our figures that stand under the published ones, by recipe: cells column → digits.
BESIDE: dict[str, int] = {"siglip_published": 4, "distinct_ratio": 2, "meteor_words": 4}


def published_view(
    path: Path | None, cells: list[dict[str, Any]], gate: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Published runs, and below them this study's figures by the same recipes; None without a file.

    Args:
        path: JSON of the published runs.
        cells: the ``cells`` table.
        gate: thresholds of the gate, as in the config.

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
    return {"rows": rows, "own": _own(cells)}


def _published(run: dict[str, Any], gate: Mapping[str, Any]) -> dict[str, Any]:
    from siglip_study.ranking.gate import GateThresholds, gate_by_diversity_alone

    final = run.get("final") or {}
    siglip = final.get("siglip", (run["stage2"].get("siglip") or [None])[-1])
    diversity = final.get("diversity", (run["stage2"].get("diversity") or [None])[-1])
    verdict = None
    if diversity is not None:
        verdict = gate_by_diversity_alone(diversity, thresholds=GateThresholds(**gate))
    return {
        "id": run["id"],
        "projector": run["projector"],
        "named": run.get("name_in_report") or run["projector"],
        "parameters": words.count(run["projector_params"]),
        "claimed": run.get("params_in_report") or "–",
        "siglip": words.number(siglip, 4),
        "diversity": words.number(diversity, 2),
        "meteor": words.number(final.get("meteor"), 4),
        "wall": final.get("wall") or "–",
        "verdict": verdict.verdict if verdict else "plain",
        "label": wording.say(f"published.{verdict.verdict if verdict else 'undetermined'}"),
        "reason": wording.published_reason(verdict)
        if verdict
        else wording.say("published.no_diversity"),
        "finished": "" if run["stage2"].get("finished") else "stopped before its last epoch",
    }


def _own(cells: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The human captions, and each projector's mean over its report seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        if cell["role"] == "references":
            groups.setdefault("Human references", []).append(cell)
        elif cell["role"] == "report":
            groups.setdefault(str(cell["projector"]), []).append(cell)
    return [
        {
            "label": label,
            **{
                name: words.number(mean([row[name] for row in rows]), digits)
                for name, digits in BESIDE.items()
            },
        }
        for label, rows in groups.items()
    ]
