"""From scored folders to what gate and ranking take, and the ranking's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from siglip_study.base.io import read_json
from siglip_study.metrics import METRICS
from siglip_study.metrics.ids import check_same_ids
from siglip_study.ranking.caveats import Circumstances
from siglip_study.ranking.choice import HalfChoice, choice_variance, half_choice, together
from siglip_study.ranking.gate import Candidate, GateThresholds, References
from siglip_study.ranking.metric_figures import MARGIN
from siglip_study.ranking.outlook import RunHours
from siglip_study.ranking.procedure import Entry, as_candidate, rank_study, write_ranking
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.scores import group_means
from siglip_study.ranking.time_order import Losses
from siglip_study.ranking.variance import Array
from siglip_study.ranking.within import known_group_means
from siglip_study.scoring.score_files import read_scores
from siglip_study.study.paths import Paths

if TYPE_CHECKING:
    from siglip_study.ranking.selection import StudySelection

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


def choice_variances(
    runs: Mapping[str, Sequence[Path]], references: Path, selection: StudySelection
) -> dict[str, float]:
    """What choosing on half of the clips adds to the variance of each projector's mean M.

    Nothing where one split chose and another is reported, or where a half had no choice.
    """
    if not selection.halves:
        return {}
    paths = Paths(references.parents[1])
    seen: dict[str, list[HalfChoice]] = {}
    names = list(selection.halves)
    for half, chooser in zip(names, reversed(names), strict=True):
        _, clips = read_scores(references, half)
        groups = clips["group"].to_list()
        for label, folders in runs.items():
            choice = selection.halves[chooser][label]
            if choice.chosen is None or len(choice.eligible) < 2:
                continue
            tuned = [
                seen_runs([paths.run(run) for run in cell.runs or (cell.cell,)], clips, half)
                for cell in choice.eligible
            ]
            fresh = seen_runs(folders, clips, half)
            own = half_choice(
                np.stack([run.margins(groups).mean(axis=0) for run in tuned]),
                np.array([cell.cell for cell in choice.eligible].index(choice.chosen)),
                fresh.margins(groups),
            )
            seen.setdefault(label, []).append(own)
    both = {label: halves for label, halves in seen.items() if len(halves) == 2}
    if not both:
        return {}
    first, second = (together([halves[i] for halves in both.values()]) for i in (0, 1))
    return dict.fromkeys(both, float(choice_variance(first, second)[0]))


def seen_projectors(
    runs: Mapping[str, Sequence[Path]], references: Path, selection: StudySelection
) -> dict[str, SeenRuns]:
    """The reported runs of each projector, and in ``entry`` what choosing on halves adds.

    Arguments and errors as of :func:`rank_projectors` and :func:`seen_runs`.
    """
    _, human = read_scores(references)
    choice = choice_variances(runs, references, selection)
    seen = {label: seen_runs(folders, human) for label, folders in runs.items()}
    return {
        label: replace(own, entry=replace(own.entry, choice=choice.get(label, 0.0)))
        for label, own in seen.items()
    }


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
    seen = seen_projectors(runs, references, selection)
    bar = seen_runs([retrieval], human).entry
    ranking = rank_study(
        {label: own.entry for label, own in seen.items()},
        human["group"].to_list(),
        reference_figures(references),
        scorer,
        retrieval=np.asarray(bar.margins)[0],
        thresholds=thresholds,
        circumstances=Circumstances(
            halved=halved,
            cross_fitted=cross_fitted,
            chosen_gates={label: own.gate for label, own in selection.projectors.items()},
            tuned={
                label: [
                    [cell.mean_margin for cell in choice.eligible]
                    for choice in selection.choices_of(label)
                ]
                for label in seen
            },
            n_tuning_seeds=max(
                (own.n_tuning_seeds for own in selection.projectors.values()), default=1
            ),
            truncated={label: own.truncated for label, own in seen.items()},
            sentences={label: own.sentences for label, own in seen.items()},
            hours=_hours(runs),
        ),
    )
    write_ranking(out, ranking)


def _hours(runs: Mapping[str, Sequence[Path]]) -> dict[str, RunHours]:
    """What one run of each projector took; nothing where it is not known of all.

    GPU time, or the machine's own where there was no GPU.
    """
    found = {}
    for label, folders in runs.items():
        folder = folders[0]
        # What two trainings report together has no files of its own.
        if not (folder / "cell.json").is_file():
            return {}
        cell = read_json(folder / "cell.json", "cell/1")
        stage1 = Paths(folder.parents[1]).stage1(cell["stage1_cell"]) / "stage.json"
        captions = read_json(folder / "captions.json", "captions/1")
        took = [
            (told["gpu_s"] or told["wall_s"]) / 3600
            for told in (cell, read_json(stage1, "stage/1"), captions)
        ]
        found[label] = RunHours(took[0] + took[1], took[2])
    return found
