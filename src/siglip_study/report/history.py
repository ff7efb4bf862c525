"""The history of a cell's training, with what its captions came to: what a diagnosis reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.report.results import Cell, only, part_names
from siglip_study.study.paths import Paths

#: Tokens whose share of the video falls under this part of what it was before training lost it.
LOST = 0.1


#: A share of the video under this is none, also before training.
NOTHING = 0.005


@dataclass(frozen=True)
class History:
    """One cell's training: rows of ``epochs.parquet`` and ``steps.parquet``, stage 1 first.

    ``collapsed`` and ``grounded`` are what the gate says of its captions (None: it was not asked).
    ``design`` tells runs of one projector with the same options. ``reports_half``: of two trainings
    with one seed, each reports a half of the held-out clips.
    """

    cell: str
    projector: str
    role: str
    seed: int | None
    epochs: tuple[dict[str, Any], ...]
    steps: tuple[dict[str, Any], ...]
    stage1_rate: float | None
    effective_captions: float | None
    reference_captions: float | None
    collapsed: bool | None
    grounded: bool | None = None
    design: str = ""
    reports_half: bool = False

    @property
    def measured(self) -> list[dict[str, Any]]:
        """Epochs in which clips were looked at."""
        return [row for row in self.epochs if row.get("diag_n")]

    @property
    def start(self) -> dict[str, Any]:
        """``diag_…`` columns before the first step, as far as they are kept."""
        if not self.measured:
            return {}
        kept = {k: v for k, v in self.measured[0].items() if k.startswith("diag_start_")}
        return {k.replace("diag_start_", "diag_"): v for k, v in kept.items()}

    @property
    def low_diversity(self) -> bool | None:
        """Whether captions have under half the effective captions of people's, as in the gate."""
        if self.effective_captions is None or self.reference_captions is None:
            return None
        return self.effective_captions < self.reference_captions / 2


def lost_in(history: History) -> dict[str, Any] | None:
    """The first epoch after which tokens say hardly anything of the video, if there is one."""
    first = history.start.get("diag_video_share_after")
    if first is None or first < NOTHING:
        return None
    for row in history.measured:
        share = row["diag_video_share_after"]
        if share is not None and share < LOST * first:
            return row
    return None


def read_histories(
    results: Path, cells: list[Cell], rows: list[dict[str, Any]], gates: dict[str, str]
) -> list[History]:
    """Histories of every trained cell, in the order of ``rows``.

    Args:
        results: output folder.
        cells: every cell of the study.
        rows: the ``cells`` table.
        gates: cell → verdict of the gate, as far as it was asked.
    """
    paths, stages = Paths(results), {}
    known = {own.name: own for cell in cells for own in (cell, *cell.halves)}
    parts = part_names(cells)
    human = only(cells, "references")
    reference = None if human is None else human.value("effective_captions")
    histories = []
    for row in rows:
        cell = known.get(row["cell"])
        if cell is None or row["optimizer_steps"] is None:
            continue
        parent = row["stage1_cell"]
        if parent is not None and parent not in stages:
            stages[parent] = _stage(paths.stage1(parent))
        epochs, steps = (
            one + two
            for one, two in zip(
                stages.get(parent, ([], [])), _stage(paths.run(row["cell"])), strict=True
            )
        )
        run = cell.run.get("run") or {}
        gate = gates.get(row["cell"])
        histories.append(
            History(
                cell=row["cell"],
                projector=row["projector"] or row["cell"],
                role=row["role"],
                seed=row["seed"],
                reports_half=row["cell"] in parts,
                epochs=tuple(epochs),
                steps=tuple(steps),
                stage1_rate=(run.get("stage1") or {}).get("learning_rate"),
                effective_captions=row["effective_captions"],
                reference_captions=reference,
                collapsed=row["collapsed"],
                grounded=None if gate is None else gate == "grounded",
                design=json.dumps(
                    [run.get("projector"), run.get("options"), run.get("sabotage")], sort_keys=True
                ),
            )
        )
    return histories


def _stage(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of epochs.parquet, and stage, step and gradient norm of each row of steps.parquet."""
    epochs = pl.read_parquet(folder / "epochs.parquet").to_dicts()
    steps = pl.read_parquet(folder / "steps.parquet", columns=["stage", "step", "grad_norm"])
    return epochs, steps.to_dicts()
