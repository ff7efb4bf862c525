"""From scored folders to the ranking's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from siglip_study.base.io import read_result
from siglip_study.ranking.caveats import Circumstances
from siglip_study.ranking.choice import HalfChoice, choice_variance, half_choice, together
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.outlook import RunHours
from siglip_study.ranking.procedure import rank_study, write_ranking
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.seen import SeenRuns, reference_figures, seen_runs
from siglip_study.ranking.selection import StudySelection
from siglip_study.scoring.score_files import read_scores
from siglip_study.study.paths import Paths


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


@dataclass(frozen=True)
class _Took:
    """What a job took, as its file tells; 0 of a GPU where there was none."""

    wall_s: float
    gpu_s: float | None


@dataclass(frozen=True)
class _Trained(_Took):
    stage1_cell: str


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
        cell = read_result(folder / "cell.json", _Trained, "cell/1")
        stage1 = Paths(folder.parents[1]).stage1(cell.stage1_cell) / "stage.json"
        took = [
            (told.gpu_s or told.wall_s) / 3600
            for told in (
                cell,
                read_result(stage1, _Took, "stage/1"),
                read_result(folder / "captions.json", _Took, "captions/1"),
            )
        ]
        found[label] = RunHours(took[0] + took[1], took[2])
    return found
