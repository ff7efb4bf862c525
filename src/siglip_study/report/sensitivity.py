"""The order of the projectors under other measures than the one that ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from siglip_study.ranking.orders import metric_orders
from siglip_study.report import wording, words
from siglip_study.report.glossary import metric_heading
from siglip_study.report.results import Cell, mean

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


def sensitivity_rows(cells: list[Cell]) -> list[dict[str, Any]]:
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


def _value(cell: Cell, metric: str) -> float | None:
    if metric == KAPPA:
        truth = cell.metrics.get("truth") or {}
        return mean([found.get("kappa") for found in truth.values()])
    return cell.value(metric)


def sensitivity_view(
    rows: list[dict[str, Any]],
    projectors: list[str],
    influence: Sequence[PairInfluence] = (),
    cells: list[Cell] | None = None,
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
        "sentence": wording.metric_orders(orders, D, {m: n for m, (n, _) in MEASURES.items()}),
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
