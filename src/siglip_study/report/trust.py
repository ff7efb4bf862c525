"""The second section: why the ranking can be trusted, or why it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siglip_study.report import wording, words
from siglip_study.report.controls import FIGURES, GAPS, GATED, D
from siglip_study.report.glossary import metric_heading
from siglip_study.report.results import ROLES, CellResult, mean, only

if TYPE_CHECKING:
    from siglip_study.ranking.procedure import Ranking, RetrievalBar

FIGURE_LABELS: dict[str, str] = {
    "grounding_margin": "Grounding D",
    "retrieval_r1": "R@1",
    "siglip_cosine": "SigLIP cosine",
    "meteor_gain": "METEOR gain",
    "effective_captions": "Effective captions",
    "top_cluster_share": "Top cluster",
    "shuffled_gap": "Shuffled loss gap",
    "reversed_gap": "Reversed loss gap",
}
#: Controls that are trained: without one, nothing shows what the study makes of a blind model.
TRAINED = ("control_blind", "control_noise", "control_permuted", "control_hot")


def trust(
    ranking: Ranking,
    pairs: list[dict[str, Any]],
    controls: list[dict[str, Any]],
    cells: list[CellResult],
) -> dict[str, Any]:
    """View of the trust section: scorer check, controls, loss gaps, pairs, retrieval, caveats.

    Args:
        ranking: the ranking.
        pairs: the ``pairs`` table.
        controls: the ``controls`` table.
        cells: every cell of the study.
    """
    references = only(cells, "references")
    scorer = ranking.scorer
    return {
        "scorer_sentence": wording.scorer_check(scorer) if scorer else None,
        "swapped": [
            {
                "share": f"{p.share:.0%}",
                "mean": words.number(p.mean, 4),
                "interval": words.interval(p.low, p.high, 4),
            }
            for p in (scorer.swapped if scorer else ())
        ],
        "undo": any(pair["seed_sd_to_undo"] is not None for pair in pairs),
        "scorer_can_tell": scorer is None or scorer.can_tell,
        "scorer": [
            {
                "label": label,
                "value": words.number(references.value(name)),
                "interval": words.interval(
                    references.value(name, "low"), references.value(name, "high")
                ),
            }
            for name, label in (
                ("grounding_margin", "Grounding D"),
                ("auc", "AUC"),
                ("auc_within", "AUC within category"),
                ("retrieval_r1", "R@1"),
            )
            if references is not None and references.value(name) is not None
        ],
        "alpha": ranking.alpha,
        "n_groups": ranking.n_groups,
        "seeds": ranking.n_seeds,
        "figures": [
            {"label": FIGURE_LABELS[name], **metric_heading(name, cells)} for name in FIGURES
        ],
        "controls": [_control(rows) for rows in by_cell(controls) if D in rows],
        "trained_controls": any(cell.role in TRAINED for cell in cells),
        "gaps": [
            _gaps(c)
            for c in cells
            if (c.role == "report" or c.role in GATED) and c.metrics.get("losses")
        ],
        "pairs": [_pair(pair) for pair in pairs],
        "retrieval": _retrieval(ranking.retrieval),
        "caveats": wording.caveats(ranking),
        "can_rank": ranking.can_rank,
        "why_not": wording.sentence(wording.why_no_ranks(ranking)),
    }


def _figure(found: dict[str, Any] | None, digits: int = 3) -> dict[str, str]:
    if found is None:
        return {"value": "–", "interval": ""}
    return {
        "value": words.number(found.get("value"), digits),
        "interval": words.interval(found.get("low"), found.get("high"), digits),
    }


def by_cell(controls: list[dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """Rows of the ``controls`` table by cell, in its order: metric → row."""
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for row in controls:
        cells.setdefault(row["cell"], {})[row["metric"]] = row
    return list(cells.values())


def _control(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    told = rows[D]
    passed, gate = told["as_expected"], told["gate_reason"] or told["gate"]
    trained = told["role"] not in ("references", "control_retrieval")
    return {
        "control": ROLES[told["role"]],
        "cell": told["cell"],
        "projector": told["projector"] if trained else None,
        "n_runs": told["n_runs"],
        "n_clips": told["n_clips"],
        "figures": [_figure(rows.get(name), 4 if name == D else 3) for name in FIGURES],
        "expectation": told["expectation"],
        "gate": wording.sentence(gate) if gate else None,
        "verdict": {True: "as expected", False: "NOT as expected", None: "no test"}[passed],
        "state": {True: "good", False: "bad", None: "plain"}[passed],
    }


def _gaps(cell: CellResult) -> dict[str, Any]:
    losses = cell.metrics.get("losses") or {}
    return {
        "cell": cell.name,
        "role": ROLES[cell.role],
        "projector": cell.projector,
        "seed": cell.seed,
        "matched": words.number(losses.get("matched")),
        "gaps": [_figure(losses.get(gap)) for gap in GAPS],
    }


def _pair(pair: dict[str, Any]) -> dict[str, Any]:
    return {
        "a": pair["a"],
        "b": pair["b"],
        "difference": words.number(pair["difference"], 4),
        "interval": words.interval(pair["low"], pair["high"], 4),
        "p": words.p_value(pair["p"]),
        "p_holm": words.p_value(pair["p_holm"]),
        "df": words.number(pair["df"], 1),
        "smallest": words.number(pair["smallest_detectable"], 4),
        "undo": words.number(pair["seed_sd_to_undo"], 4),
        "better": pair["better"],
    }


def _retrieval(bar: RetrievalBar | None) -> dict[str, Any]:
    if bar is None:
        return {"margin": "–", "sentence": wording.say("retrieval.none"), "rows": []}
    cleared = ", ".join(bar.cleared_by)
    key = "retrieval.cleared" if cleared else "retrieval.not_cleared"
    return {
        "margin": words.number(bar.mean_margin, 4),
        "sentence": wording.say(key, projectors=cleared),
        "rows": [
            {
                "projector": test.projector,
                "difference": words.number(test.difference, 4),
                "interval": words.interval(test.low, test.high, 4),
                "p": words.p_value(test.p_holm),
                "cleared": test.cleared,
            }
            for test in bar.comparisons
        ],
    }


def truth(cells: list[CellResult], projectors: list[str]) -> dict[str, Any] | None:
    """View of the demo's truth: κ per attribute and projector, or None where facts are not known.

    A value is the mean over the projector's report seeds; its interval reaches from the lowest
    lower to the highest upper bound of those seeds, and so is wider than any one of them.
    """
    runs: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.metrics.get("truth") and cell.role in (
            "report",
            "control_retrieval",
            "references",
            "control_hot",
        ):
            label = cell.projector if cell.role == "report" else ROLES[cell.role]
            runs.setdefault(str(label), []).append(cell)
    if not runs:
        return None
    order = {label: place for place, label in enumerate(projectors)}
    labels = sorted(runs, key=lambda label: (order.get(label, len(order)), label))
    attributes = list(
        dict.fromkeys(a for label in labels for c in runs[label] for a in c.metrics["truth"])
    )
    return {
        "projectors": labels,
        "rows": [
            {
                "attribute": a.replace("_", " "),
                "cells": [_kappa(runs[label], a) for label in labels],
            }
            for a in attributes
        ],
    }


def _kappa(cells: list[CellResult], attribute: str) -> dict[str, Any]:
    found = [c.metrics["truth"][attribute] for c in cells if attribute in c.metrics["truth"]]
    value = mean([f.get("kappa") for f in found])
    lows = [f["low"] for f in found if f.get("low") is not None]
    highs = [f["high"] for f in found if f.get("high") is not None]
    low, high = (min(lows) if lows else None), (max(highs) if highs else None)
    return {
        "value": words.number(value, 2),
        "interval": words.interval(low, high, 2),
        "above": low is not None and low > 0,
        "heat": round(100 * min(1.0, max(0.0, value or 0.0))),
        "accuracy": words.number(mean([f.get("accuracy") for f in found]), 2),
        "majority": words.number(mean([f.get("majority") for f in found]), 2),
        "n": found[0].get("n") if found else None,
    }
