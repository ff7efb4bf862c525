"""From scored folders to what gate and ranking take, and the ranking's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from siglip_study.metrics.ids import check_same_ids
from siglip_study.ranking.caveats import Circumstances
from siglip_study.ranking.gate import Candidate, GateThresholds, References
from siglip_study.ranking.procedure import Entry, rank_study, write_ranking
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.within import known_group_means
from siglip_study.scoring.score_files import read_scores

if TYPE_CHECKING:
    from siglip_study.ranking.selection import StudySelection

WITHIN = "grounding_margin_within"


def reference_figures(folder: Path, half: str | None = None) -> References:
    """The human captions' diversity, mean D, and D within category; on a half, if one is named."""
    metrics, clips = read_scores(folder, half)
    values = metrics["values"]
    return References(
        effective=values["effective_captions"]["value"],
        top_share=values["top_cluster_share"]["value"],
        mean_margin=values["grounding_margin"]["value"],
        within=known_group_means(_numbers(clips, WITHIN), clips["group"].to_list()),
    )


def _numbers(clips: pl.DataFrame, column: str) -> np.ndarray:
    """A column as floats, NaN where it has no value: ``[n]``."""
    return clips[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def candidate(
    folders: Sequence[Path], clips: pl.DataFrame, half: str | None = None
) -> tuple[Candidate, float]:
    """What the gate sees of one captioner's runs, by clip, and their share of cut captions.

    Args:
        folders: of scores, one a seed.
        clips: the references' rows: the clips that must have been scored, in order of ids.
        half: the one to look at, where a held-out split is halved.

    Raises:
        StudyError: a run was scored on other clips; the highest D would then be that of the
            easiest clips.
    """
    told, tables = zip(*(read_scores(folder, half) for folder in folders), strict=True)
    for folder, table in zip(folders, tables, strict=True):
        check_same_ids(clips["id"].to_list(), table["id"], "the references", str(folder))
    values = [metrics["values"] for metrics in told]
    seen = Candidate(
        effective=[v["effective_captions"]["value"] for v in values],
        top_share=[v["top_cluster_share"]["value"] for v in values],
        margins=[table["grounding_margin"].to_list() for table in tables],
        within=[_numbers(table, WITHIN) for table in tables],
    )
    return seen, sum(metrics["truncated_share"] for metrics in told) / len(told)


def rank_projectors(
    runs: Mapping[str, Sequence[Path]],
    references: Path,
    retrieval: Path,
    selection: StudySelection,
    scorer: ScorerCheck,
    thresholds: GateThresholds,
    halved: bool,
    out: Path,
    cross_fitted: bool = False,
) -> None:
    """Gate, test and rank the projectors; write ``ranking.json``.

    Args:
        runs: projector label → folders of its reported runs' scores, one a seed.
        references: folder of the human captions' scores on the same clips.
        retrieval: folder of the retrieval baseline's.
        selection: the chosen cells.
        scorer: what the scorer made of the human captions before training.
        thresholds: of the gate.
        halved: whether selection and report are halves of one split, and the first only chose.
        out: ``ranking.json``.
        cross_fitted: whether they are halves that chose for each other, both of them reported.
    """
    _, human = read_scores(references)
    entries, truncated = {}, {}
    for label, folders in runs.items():
        seen, truncated[label] = candidate(folders, human)
        entries[label] = Entry(seen.margins, seen.effective, seen.top_share, seen.within)
    bar, _ = candidate([retrieval], human)
    ranking = rank_study(
        entries,
        human["group"].to_list(),
        reference_figures(references),
        scorer,
        retrieval=np.asarray(bar.margins)[0],
        thresholds=thresholds,
        circumstances=Circumstances(
            halved=halved,
            cross_fitted=cross_fitted,
            chosen_gates={label: own.gate for label, own in selection.projectors.items()},
            truncated=truncated,
        ),
    )
    write_ranking(out, ranking)
