"""Runs of one control as the one that they are: a row for all draws of permuted captions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import polars as pl

from siglip_study.report.results import Cell, mean, shared

if TYPE_CHECKING:
    import numpy as np

#: What the gate judges: metric and its name in the ``clips`` table. Of these the mean over draws
#: has an interval.
JUDGED = ("grounding_margin", "grounding_margin_within")
_LEVEL = 0.95


def runs_by_control(cells: list[Cell]) -> list[list[Cell]]:
    """The controls among ``cells``, each with all of its runs."""
    runs: dict[tuple[str, str | None], list[Cell]] = {}
    for cell in cells:
        if cell.role.startswith("control_"):
            runs.setdefault((cell.role, cell.projector), []).append(cell)
    return list(runs.values())


def joined_name(runs: list[Cell]) -> str:
    """The name under which the runs of one control stand together: its label, without a hash."""
    return runs[0].name if len(runs) == 1 else str(runs[0].projector)


def by_group(clips: pl.DataFrame, name: str, metric: str) -> np.ndarray:
    """A margin of one cell, averaged within source videos ``[G]``; NaN where a video has none."""
    from siglip_study.ranking.within import known_group_means

    own = clips.filter(pl.col("cell") == name).sort("id")
    values = own[metric].fill_null(float("nan")).to_numpy()
    return known_group_means(values, own["group"].to_list())


def join_draws(cells: list[Cell], clips: pl.DataFrame) -> list[Cell]:
    """``cells`` with one in place of all runs of a control, where it has several.

    Its figures are means over the runs. Intervals of single runs carry clips only, so they are
    dropped; the mean D has one of clips and draws.
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


def _joined(runs: list[Cell], clips: pl.DataFrame) -> Cell:
    first = runs[0]
    values = {}
    for metric, found in first.metrics["values"].items():
        low, high = _interval(runs, clips, metric) if metric in JUDGED else (None, None)
        values[metric] = {
            **found,
            "value": mean([run.value(metric) for run in runs]),
            "low": low,
            "high": high,
        }
    losses: dict[str, Any] | None = None
    if all(run.metrics.get("losses") for run in runs):
        gaps = [gap for gap in first.metrics["losses"] if gap != "matched"]
        losses = {"matched": mean([run.metrics["losses"]["matched"] for run in runs])} | {
            gap: {"value": mean([run.gap(gap) for run in runs]), "low": None, "high": None}
            for gap in gaps
        }
    return dataclasses.replace(
        first,
        name=joined_name(runs),
        metrics={**first.metrics, "values": values, "losses": losses, "seed": None},
        run={**shared([run.run for run in runs]), "seed": None},
        runs=tuple(run.name for run in runs),
    )


def _interval(
    runs: list[Cell], clips: pl.DataFrame, metric: str
) -> tuple[float | None, float | None]:
    """95 % interval of the mean over runs, as the gate bounds it; ``None`` of one source video."""
    import numpy as np

    from siglip_study.ranking.one_sided import variance_of
    from siglip_study.ranking.variance import seed_noise, t_quantile

    table = np.stack([by_group(clips, run.name, metric) for run in runs])
    table = table[:, np.isfinite(table).all(axis=0)]
    if table.shape[1] < 2:
        return None, None
    means = table.mean(axis=0)
    variance, df = variance_of(means, seed_noise(table[None]), 0, own_runs=True)
    half = float(t_quantile((1 + _LEVEL) / 2, df) * np.sqrt(variance))
    return float(means.mean()) - half, float(means.mean()) + half
