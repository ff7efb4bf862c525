"""Choose each projector's cell from the scores of the tuning cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.io import read_json, write_json
from siglip_study.metrics.ids import check_same_ids
from siglip_study.ranking.gate import Candidate, GateThresholds, References, gate_all
from siglip_study.ranking.scores import group_means
from siglip_study.ranking.selection import TuningCell, select_cells
from siglip_study.ranking.within import known_group_means
from siglip_study.study.cells import Cell
from siglip_study.study.grid import SELECTION_SCHEMA

WITHIN = "grounding_margin_within"


def reference_figures(folder: Path) -> References:
    """The human captions' diversity, mean D, and D within category, on a split."""
    clips = pl.read_parquet(folder / "clips.parquet", columns=["id", "group", WITHIN]).sort("id")
    values = read_json(folder / "metrics.json", "metrics/1")["values"]
    return References(
        effective=values["effective_captions"]["value"],
        top_share=values["top_cluster_share"]["value"],
        mean_margin=values["grounding_margin"]["value"],
        within=known_group_means(_numbers(clips, WITHIN), clips["group"].to_list()),
    )


def _numbers(clips: pl.DataFrame, column: str) -> np.ndarray:
    """A column as floats, NaN where it has no value: ``[n]``."""
    return clips[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def candidate(folders: Sequence[Path]) -> tuple[Candidate, list[str]]:
    """What the gate sees of one projector's runs (one folder a seed), by clip, and their groups."""
    values = [read_json(folder / "metrics.json", "metrics/1")["values"] for folder in folders]
    tables = [pl.read_parquet(folder / "clips.parquet").sort("id") for folder in folders]
    groups = tables[0]["group"].to_list()
    margins = [table["grounding_margin"].to_list() for table in tables]
    return (
        Candidate(
            effective=[v["effective_captions"]["value"] for v in values],
            top_share=[v["top_cluster_share"]["value"] for v in values],
            margins=margins,
            within=[_numbers(table, WITHIN) for table in tables],
        ),
        groups,
    )


def tuned_cells(
    cells: Sequence[Cell], folders: Sequence[Path], references: Path, thresholds: GateThresholds
) -> list[TuningCell]:
    """Every tuning cell as it is chosen by: mean D and the gate's word on one set of clips.

    Each cell is gated by itself: Holm's correction belongs to claims on the report split, and here
    would let the size of the grid decide which cells are passed over.

    Raises:
        StudyError: a cell was scored on other clips than the references; the highest D would then
            be that of the easiest clips.
    """
    human = reference_figures(references)
    clips = pl.read_parquet(references / "clips.parquet", columns=["id", "group"]).sort("id")
    groups = clips["group"].to_list()
    rows = []
    for cell, folder in zip(cells, folders, strict=True):
        seen, _ = candidate([folder])
        ids = pl.read_parquet(folder / "clips.parquet", columns=["id"])["id"].to_list()
        check_same_ids(clips["id"].to_list(), ids, "the references", str(folder))
        by_group = group_means(seen.margins, groups)[1]
        verdict = gate_all(
            {
                cell.name: Candidate(
                    seen.effective,
                    seen.top_share,
                    by_group,
                    known_group_means(seen.within or [], groups),
                )
            },
            human,
            thresholds,
        )[cell.name]
        rows.append(
            TuningCell(
                cell=cell.name,
                projector=cell.label,
                mean_margin=float(by_group.mean()),
                gate=verdict.verdict,
                learning_rate=cell.run.stage2.learning_rate,
                epochs=cell.run.stage2.epochs,
                gate_reason=verdict.reason,
            )
        )
    return rows


def select_tuned(
    cells: Sequence[Cell],
    folders: Sequence[Path],
    references: Path,
    thresholds: GateThresholds,
    out: Path,
) -> dict[str, Any]:
    """Choose on the selection split and write ``selection.json``."""
    found = select_cells(tuned_cells(cells, folders, references, thresholds))
    rows = {
        label: {**asdict(own), "reports": {"report": own.chosen}} for label, own in found.items()
    }
    selection = {"projectors": rows}
    write_json(out, selection, SELECTION_SCHEMA)
    return selection
