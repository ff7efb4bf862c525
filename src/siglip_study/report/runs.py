"""Views of the runs behind the answer: tuning grids, all cells, costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_parquet
from siglip_study.config.axes import EPOCHS, told_value
from siglip_study.ranking.selection import StudySelection
from siglip_study.report import words
from siglip_study.report.language import NOTHING
from siglip_study.report.wording.gate import (
    gate_name,
    half_name,
    passed_over,
    refused_cells,
    tuning_seeds,
)
from siglip_study.study.paths import Paths


def tuning_grids(selection: StudySelection) -> list[dict[str, Any]]:
    """A learning rate × epochs table of mean M a projector, the chosen cell marked.

    Other axes of the grid have a row for each of their values. Where the halves of a held-out split
    choose for each other, each has its table.
    """
    halves = selection.halves or {"": selection.projectors}
    tables = [(half, label, own) for half, all_ in halves.items() for label, own in all_.items()]
    margins = [cell.mean_margin for *_, own in tables for cell in own.cells]
    top = max([margin for margin in margins if margin > 0], default=1.0)
    grids = []
    for half, label, own in tables:
        places: dict[tuple[str, float, float], list[dict[str, Any]]] = {}
        for cell in own.cells:
            refused = cell.gate in ("collapsed", "unstable", "category_only")
            settings = " · ".join(told_value(k, v) for k, v in cell.settings.items())
            places.setdefault((settings, cell.epochs, cell.learning_rate), []).append(
                {
                    "settings": settings,
                    "epochs": cell.epochs,
                    "value": cell.mean_margin,
                    "runs": cell.run_margins if len(cell.runs) > 1 else (),
                    "heat": words.heat(cell.mean_margin, top),
                    "chosen": cell.cell == own.chosen,
                    "word": gate_name(cell.gate).lower() if refused else NOTHING,
                }
            )
        rates = sorted({rate for *_, rate in places})
        budgets = sorted({epochs for _, epochs, _ in places})
        grids.append(
            {
                "projector": label,
                "half": half_name(half),
                "chosen": own.chosen,
                "seeds": tuning_seeds(own.n_tuning_seeds),
                "counted": refused_cells(own),
                "passed_over": passed_over(own),
                "rates": rates,
                "has_settings": any(cell.settings for cell in own.cells),
                "rows": {
                    _row(settings, epochs if len(budgets) > 1 or not settings else None): [
                        places.get((settings, epochs, rate), []) for rate in rates
                    ]
                    for settings in dict.fromkeys(settings for settings, *_ in places)
                    for epochs in budgets
                    if any((settings, epochs, rate) in places for rate in rates)
                },
            }
        )
    return grids


def _row(settings: str, epochs: float | None) -> str:
    """A row's name: its settings on other axes, and its epochs where there is more than one."""
    if not settings:
        return f"{epochs:g}"
    return settings if epochs is None else f"{settings} · {told_value(EPOCHS, int(epochs))}"


def costs(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs, wall time, GPU time and peak memory a projector, all its cells together.

    A stage 1 that several cells share is counted once.
    """
    rows: dict[str, dict[str, Any]] = {}
    everything = _no_cost()
    parents: set[str] = set()
    for c in cells:
        if c["wall_s"] is None:
            continue
        shared = c["stage1_cell"] in parents
        parents.add(c["stage1_cell"])
        for row in (rows.setdefault(str(c["projector"]), _no_cost()), everything):
            row["runs"] += 1
            for key in ("wall", "gpu"):
                row[key] += c[f"{key}_s"] or 0.0
                row[key] += 0.0 if shared else c[f"stage1_{key}_s"] or 0.0
            row["peak"] = max(row["peak"], c["peak_gpu_gb"] or 0.0)
            row["devices"].add(str(c["device"]))
    return [{"projector": label, **row} for label, row in [*rows.items(), ("All", everything)]]


def _no_cost() -> dict[str, Any]:
    return {"runs": 0, "wall": 0.0, "gpu": 0.0, "peak": 0.0, "devices": set()}


# ---- Training curves of every cell, thinned so that a hundred of them fit in the page.

#: Points a curve; a curve that has more is averaged in buckets of equal length.
POINTS = 40


def curves(results: Path, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Curves of the trained cells: ``{"cells": [...], "stage1": {name: curve}}``.

    A curve has ``step``, ``loss`` (means of buckets), ``epoch_step`` and
    ``val_loss`` (one value an epoch).
    """
    paths = Paths(results)
    told, parents = [], {}
    for cell in cells:
        if cell["optimizer_steps"] is None:
            continue
        curve = read_curve(paths.run(cell["cell"]))
        parent = cell["stage1_cell"]
        if parent is not None and parent not in parents:
            parents[parent] = read_curve(paths.stage1(parent))
        keys = ("cell", "projector", "role", "seed", "learning_rate", "epochs", "chosen")
        told.append({**{key: cell[key] for key in keys}, "stage1": parent, "stage2": curve})
    return {"cells": told, "stage1": parents}


def read_curve(folder: Path) -> dict[str, list[float | None]]:
    """One stage's curve.

    Raises:
        StudyError: ``steps.parquet`` or ``epochs.parquet`` is missing.
    """
    tables = []
    for name, measured in (("steps", "loss"), ("epochs", "val_loss")):
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise StudyError(f"{path}: no such file; expected the log of a training stage.")
        tables.append(read_parquet(path, ["step", measured]))
    steps, epochs = tables
    x, y, _ = thin(steps["step"].to_numpy(), steps["loss"].to_numpy())
    return {
        "step": [round(float(v), 1) for v in x],
        "loss": _short(y),
        "epoch_step": epochs["step"].to_list(),
        "val_loss": _short(epochs["val_loss"].to_list()),
    }


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
