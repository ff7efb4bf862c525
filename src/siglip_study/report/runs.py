"""Views of the runs behind the answer: tuning grids, all cells, costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.report import wording, words
from siglip_study.report.results import OF_ONE_HALF, ROLES
from siglip_study.study.paths import Paths

if TYPE_CHECKING:
    from siglip_study.ranking.selection import StudySelection


def tuning_grids(selection: StudySelection) -> list[dict[str, Any]]:
    """A learning rate × epochs table of mean D a projector, the chosen cell marked.

    Where the halves of a held-out split choose for each other, each has its table.
    """
    chosen = selection.halves or {"": selection.projectors}
    tables = [(half, label, own) for half, all_ in chosen.items() for label, own in all_.items()]
    margins = [cell.mean_margin for *_, own in tables for cell in own.cells]
    top = max([margin for margin in margins if margin > 0], default=1.0)
    grids = []
    for half, label, own in tables:
        rates = sorted({cell.learning_rate for cell in own.cells})
        budgets = sorted({cell.epochs for cell in own.cells})
        places: dict[tuple[float, float], list[dict[str, Any]]] = {}
        for cell in own.cells:
            places.setdefault((cell.epochs, cell.learning_rate), []).append(
                {
                    "cell": cell.cell,
                    "value": words.number(cell.mean_margin, 4),
                    "heat": round(100 * min(1.0, max(0.0, cell.mean_margin / top))),
                    "chosen": cell.cell == own.chosen,
                    "word": wording.gate_name(cell.gate).lower()
                    if cell.gate in ("collapsed", "category_only")
                    else "",
                }
            )
        grids.append(
            {
                "projector": label,
                "half": wording.say(f"half.{half}") if half else "",
                "chosen": own.chosen,
                "n_cells": own.n_cells,
                "counted": wording.refused_cells(own),
                "passed_over": wording.passed_over(own),
                "rates": [words.rate(rate) for rate in rates],
                "rows": [
                    {"epochs": f"{b:g}", "cells": [places.get((b, rate), []) for rate in rates]}
                    for b in budgets
                ],
            }
        )
    return grids


def cell_rows(cells: list[dict[str, Any]], parts: set[str]) -> list[dict[str, Any]]:
    """Every cell in one table: what the scatter shows, and more, in figures.

    Args:
        cells: rows of the ``cells`` table.
        parts: those among them that report one half.
    """
    return [
        {
            "cell": c["cell"],
            "role": ROLES[c["role"]] + OF_ONE_HALF * (c["cell"] in parts),
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


# ---- Training curves of every cell, thinned so that a hundred of them fit in the page.

#: Points a curve; a curve that has more is averaged in buckets of equal length.
POINTS = 60


def curve_island(results: Path, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Curves for the page: ``{"cells": [...], "stage1": {name: curve}, "bucket": n}``.

    A curve has ``step``, ``loss`` (means of buckets), ``epoch_step``, ``val_loss`` and
    ``diversity`` (one value an epoch). ``bucket`` is the largest number of steps in one point.

    Args:
        results: output folder.
        cells: rows of the ``cells`` table; the untrained ones are left out.
    """
    paths = Paths(results)
    told, parents, bucket = [], {}, 1
    for cell in cells:
        if cell["optimizer_steps"] is None:
            continue
        curve, size = read_curve(paths.run(cell["cell"]))
        bucket = max(bucket, size)
        parent = cell["stage1_cell"]
        if parent is not None and parent not in parents:
            parents[parent], size = read_curve(paths.stage1(parent))
            bucket = max(bucket, size)
        keys = ("cell", "projector", "role", "seed", "learning_rate", "epochs", "chosen")
        told.append({**{key: cell[key] for key in keys}, "stage1": parent, "stage2": curve})
    return {"cells": told, "stage1": parents, "bucket": bucket}


def read_curve(folder: Path) -> tuple[dict[str, list[float | None]], int]:
    """One stage's curve and the number of optimizer steps averaged into a point.

    Raises:
        StudyError: ``steps.parquet`` or ``epochs.parquet`` is missing.
    """
    tables = []
    for name in ("steps", "epochs"):
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise StudyError(f"{path}: no such file; expected the log of a training stage.")
        tables.append(pl.read_parquet(path))
    steps, epochs = tables
    x, y, size = thin(steps["step"].to_numpy(), steps["loss"].to_numpy())
    return {
        "step": [round(float(v), 1) for v in x],
        "loss": _short(y),
        "epoch_step": epochs["step"].to_list(),
        "val_loss": _short(epochs["val_loss"].to_list()),
        "diversity": _short(epochs["quick_effective_captions"].to_list()),
    }, size


def thin(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray, int]:
    """Means of consecutive buckets of equal size: at most ``points`` of them, and the size."""
    size = max(1, -(-len(x) // points))
    edges = np.arange(0, len(x), size)
    if len(x) == 0 or size == 1:
        return x, y, 1
    lengths = np.diff(np.append(edges, len(x)))
    return np.add.reduceat(x, edges) / lengths, np.add.reduceat(y, edges) / lengths, size


def _short(values: Any) -> list[float | None]:
    return [None if v is None or v != v else float(f"{v:.4g}") for v in values]
