"""From the scored report cells to ``ranking.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from siglip_study.base.io import read_json, write_json
from siglip_study.metrics.ids import check_same_ids
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.rank import Entry, rank
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.selection_file import candidate, reference_figures
from siglip_study.ranking.wording import Circumstances
from siglip_study.study.grid import SELECTION_SCHEMA


def rank_projectors(
    runs: Mapping[str, Sequence[Path]],
    references: Path,
    retrieval: Path,
    selection: Path,
    scorer: ScorerCheck,
    thresholds: GateThresholds,
    halved: bool,
    out: Path,
    cross_fitted: bool = False,
) -> None:
    """Gate, test and rank the projectors.

    Args:
        runs: projector label → folders of its reported cells, one a seed.
        references: folder of the human captions on the report split.
        retrieval: folder of the retrieval baseline on it.
        selection: ``selection.json``.
        scorer: what the scorer made of the human captions before training.
        thresholds: of the gate.
        halved: whether selection and report are halves of one split, and the first only chose.
        out: ``ranking.json``.
        cross_fitted: whether they are halves that chose for each other; then every folder holds
            both, put together.
    """
    human = pl.read_parquet(references / "clips.parquet").sort("id")
    groups = human["group"].to_list()
    entries, truncated = {}, {}
    for label, folders in runs.items():
        for folder in folders:
            ids = pl.read_parquet(folder / "clips.parquet", columns=["id"])["id"].to_list()
            check_same_ids(human["id"].to_list(), ids, "the references", str(folder))
        seen, _ = candidate(folders)
        entries[label] = Entry(seen.margins, seen.effective, seen.top_share, seen.within)
        shares = [
            read_json(folder / "metrics.json", "metrics/1")["truncated_share"] for folder in folders
        ]
        truncated[label] = sum(shares) / len(shares)
    chosen = read_json(selection, SELECTION_SCHEMA)["projectors"]
    bar = pl.read_parquet(retrieval / "clips.parquet").sort("id")
    check_same_ids(human["id"].to_list(), bar["id"].to_list(), "the references", str(retrieval))
    body = rank(
        entries,
        groups,
        reference_figures(references),
        scorer,
        retrieval=bar["grounding_margin"].to_numpy(),
        thresholds=thresholds,
        circumstances=Circumstances(
            halved=halved,
            cross_fitted=cross_fitted,
            chosen_gates={label: row["gate"] for label, row in chosen.items()},
            truncated=truncated,
        ),
    )
    write_json(out, body, "ranking/1")
