"""Views of the runs behind the answer: tuning grids, all cells, costs."""

from __future__ import annotations

from typing import Any

from siglip_study.report import words
from siglip_study.report.results import ROLES

#: What stands under a cell that the gate refused.
_REFUSED = {"collapsed": "collapsed", "category_only": "category only"}


def tuning_grids(selection: dict[str, Any]) -> list[dict[str, Any]]:
    """A learning rate × epochs table of mean D a projector, the chosen cell marked.

    Where the halves of a held-out split choose for each other, each has its table.
    """
    grids = []
    tables = [
        (half, label, told)
        for half, projectors in (selection.get("halves") or {"": selection["projectors"]}).items()
        for label, told in projectors.items()
    ]
    margins = [
        c["mean_margin"]
        for *_, told in tables
        for c in told["cells"]
        if c["mean_margin"] is not None
    ]
    top = max([m for m in margins if m > 0], default=1.0)
    for half, label, told in tables:
        rates = sorted({c["learning_rate"] for c in told["cells"]})
        budgets = sorted({c["epochs"] for c in told["cells"]})
        places: dict[tuple[float, float], list[dict[str, Any]]] = {}
        for c in told["cells"]:
            margin = c["mean_margin"]
            places.setdefault((c["epochs"], c["learning_rate"]), []).append(
                {
                    "cell": c["cell"],
                    "value": words.number(margin, 4),
                    "heat": round(100 * min(1.0, max(0.0, (margin or 0.0) / top))),
                    "chosen": c["cell"] == told["chosen"],
                    "word": _REFUSED.get(c["gate"], ""),
                }
            )
        grids.append(
            {
                "projector": label,
                "half": words.HALVES.get(half, ""),
                "chosen": told["chosen"],
                "n_cells": told["n_cells"],
                "counted": _counted(told),
                "passed_over": _passed_over(told),
                "rates": [words.rate(rate) for rate in rates],
                "rows": [
                    {"epochs": f"{b:g}", "cells": [places.get((b, rate), []) for rate in rates]}
                    for b in budgets
                ],
            }
        )
    return grids


def _counted(told: dict[str, Any]) -> str:
    """How many cells the gate refused on the clips that choose, by its word."""
    said = f"{told['n_collapsed']} of {told['n_cells']} cells collapsed"
    only = told["n_category_only"]
    return said + (f", {only} category only" if only else "")


def _passed_over(told: dict[str, Any]) -> list[str]:
    """A sentence for each cell of higher D than the chosen one: why it was not taken."""
    over = [cell for cell in told["cells"] if cell["cell"] in told["passed_over"]]
    return [f"{cell['cell']} was passed over. {cell['gate_reason']}" for cell in over]


def cell_rows(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every cell in one table: what the scatter shows, and more, in figures."""
    return [
        {
            "cell": c["cell"],
            "role": ROLES[c["role"]],
            "seed": "–" if c["seed"] is None else str(c["seed"]),
            "rate": words.rate(c["learning_rate"]),
            "epochs": "–" if c["epochs"] is None else f"{c['epochs']:g}",
            "split": c["split"],
            "margin": words.number(c["grounding_margin"], 4),
            "interval": words.interval(c["grounding_margin_low"], c["grounding_margin_high"], 4),
            "siglip": words.number(c["siglip_cosine"]),
            "effective": words.number(c["effective_captions"], 2),
            "top": words.number(c["top_cluster_share"], 2),
            "empty": words.count(c["n_empty"]),
            "truncated": words.number(c["truncated_share"], 2),
            "loss": words.number(c["loss_matched"]),
            "steps": words.count(c["optimizer_steps"]),
            "note": ", ".join(key for key in ("chosen", "collapsed") if c[key]),
        }
        for c in cells
    ]


def scatter_rows(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for the scatter charts; the state decides the shape."""
    rows = []
    for c in cells:
        if c["role"] == "half":
            continue  # their points are those of what they are together
        control = c["role"].startswith("control_") and c["role"] != "control_retrieval"
        state = {
            "references": "human references",
            "control_retrieval": "retrieval baseline",
            "report": "report run",
        }.get(c["role"], "control" if control else "tuning run")
        if c["collapsed"]:
            state = "collapsed"
        rows.append(
            {
                "name": c["cell"],
                "label": ROLES[c["role"]] if c["role"] not in ("report", "tuning") else "",
                "projector": c["projector"] or ROLES[c["role"]],
                "state": state,
                **{
                    key: c[key]
                    for key in ("effective_captions", "siglip_cosine", "grounding_margin")
                },
            }
        )
    return rows


def costs(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs, wall time, GPU time and peak memory a projector, all its cells together.

    A stage 1 that several cells share is counted once.
    """
    rows: dict[str, dict[str, Any]] = {}
    parents: set[str] = set()
    for c in cells:
        if c["wall_s"] is None:
            continue
        row = rows.setdefault(
            str(c["projector"]), {"runs": 0, "wall": 0.0, "gpu": 0.0, "peak": 0.0, "device": set()}
        )
        row["runs"] += 1
        row["wall"] += c["wall_s"]
        row["gpu"] += c["gpu_s"] or 0.0
        if c["stage1_cell"] not in parents:
            parents.add(c["stage1_cell"])
            row["wall"] += c["stage1_wall_s"] or 0.0
            row["gpu"] += c["stage1_gpu_s"] or 0.0
        row["peak"] = max(row["peak"], c["peak_gpu_gb"] or 0.0)
        row["device"].add(c["device"])
    total = {
        "runs": sum(r["runs"] for r in rows.values()),
        "wall": sum(r["wall"] for r in rows.values()),
        "gpu": sum(r["gpu"] for r in rows.values()),
        "peak": max((r["peak"] for r in rows.values()), default=0.0),
        "device": set().union(*(r["device"] for r in rows.values())),
    }
    return [
        {
            "projector": label,
            "runs": r["runs"],
            "wall": words.duration(r["wall"]),
            "gpu": words.duration(r["gpu"]),
            "gpu_s": f"{r['gpu']:.0f}",
            "peak": f"{r['peak']:.1f} GiB",
            "device": ", ".join(sorted(str(d) for d in r["device"])),
        }
        for label, r in [*rows.items(), ("All", total)]
    ]
