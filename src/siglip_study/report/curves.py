"""Training curves of every cell, thinned so that a hundred of them fit in the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.study.paths import Paths

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
        if cell["role"] == "half":
            told[-1]["role"] = "report"  # a training like any other
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
