"""What gate, selection and ranking see of captioners, read from the folders of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from siglip_study.metrics import METRICS
from siglip_study.metrics.ids import check_same_ids
from siglip_study.ranking.gate import Candidate, References
from siglip_study.ranking.metric_figures import MARGIN
from siglip_study.ranking.procedure import Entry, as_candidate
from siglip_study.ranking.scores import group_means
from siglip_study.ranking.time_order import Losses
from siglip_study.ranking.variance import Array
from siglip_study.ranking.within import known_group_means
from siglip_study.scoring.score_files import read_scores

#: M within category: a column of ``clips.parquet``, as M is.
WITHIN = "standardised_margin_within"


def reference_figures(folder: Path, half: str | None = None) -> References:
    """The human captions' diversity, mean M, and M within category; on a half, if one is named."""
    metrics, clips = read_scores(folder, half)
    values = metrics["values"]
    return References(
        effective=values["effective_captions"]["value"],
        top_share=values["top_cluster_share"]["value"],
        mean_margin=values[MARGIN]["value"],
        within=known_group_means(_numbers(clips, WITHIN), clips["group"].to_list()),
    )


def _numbers(clips: pl.DataFrame, column: str) -> np.ndarray:
    """A column as floats, NaN where it has no value: ``[n]``."""
    return clips[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


@dataclass(frozen=True)
class SeenRuns:
    """What ranking and gate see of one captioner's runs, by clip, clips in order of ids.

    ``entry`` holds the figures by run; ``truncated`` is the share of cut captions and ``sentences``
    the mean number of sentences a caption.
    """

    entry: Entry
    truncated: float
    sentences: float

    def margins(self, groups: Sequence[str]) -> Array:
        """M by run and source video, ``[S, G]``."""
        return group_means(self.entry.margins, groups)[1]

    def candidate(self, groups: Sequence[str]) -> Candidate:
        """What the gate sees, clips averaged within source videos."""
        return as_candidate(self.entry, groups)


def seen_runs(folders: Sequence[Path], clips: pl.DataFrame, half: str | None = None) -> SeenRuns:
    """Read one captioner's runs.

    Args:
        folders: of scores, one a seed.
        clips: the references' rows: the clips that must have been scored, in order of ids.
        half: the one to look at, where a held-out split is halved.

    Raises:
        StudyError: a run was scored on other clips; the highest margin would then be that of the
            easiest clips.
    """
    told, tables = zip(*(read_scores(folder, half) for folder in folders), strict=True)
    for folder, table in zip(folders, tables, strict=True):
        check_same_ids(clips["id"].to_list(), table["id"], "the references", str(folder))

    def by_run(column: str) -> list[np.ndarray]:
        return [_numbers(table, column) for table in tables]

    def figure(metric: str) -> list[float]:
        return [metrics["values"][metric]["value"] for metrics in told]

    losses = None
    if all(table["loss_matched"].null_count() == 0 for table in tables):
        losses = Losses(*(by_run(f"loss_{name}") for name in ("matched", "shuffled", "reversed")))
    entry = Entry(
        margins=by_run(MARGIN),
        effective=figure("effective_captions"),
        top_share=figure("top_cluster_share"),
        within=by_run(WITHIN),
        cosine=by_run("grounding_margin"),
        losses=losses,
        others={
            name: np.stack(by_run(name))
            for name in METRICS
            if name != MARGIN and all(name in table.columns for table in tables)
        },
    )
    truncated = [metrics["truncated_share"] for metrics in told]
    return SeenRuns(entry, float(np.mean(truncated)), float(np.mean(figure("sentences"))))
