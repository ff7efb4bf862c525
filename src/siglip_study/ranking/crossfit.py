"""Cross-fitting one held-out split: each clip is reported by the cell that was chosen without it.

A held-out split is halved by source video into halves A and B. Fold 0 chooses on A and reports on
B, fold 1 chooses on B and reports on A; every held-out clip is reported once. The score y_psg of
projector p, seed s and group g comes from the cell that p's *other* half chose, and the pooled
table ``[P, S, G]`` goes through the ranking as any other:

* Groups: those of both halves, G_A + G_B, so G − 1 is the clip part's degrees of freedom.
* Seeds: the mean of a run is taken over both halves. If the folds chose one cell, its S runs
  report both halves and nothing more is trained. If not, run s of one cell is put together with
  run s of the other: the seed part of that sum is w_A²σ_A² + w_B²σ_B² (+ their covariance, since
  equal seeds share the order of clips), which is just what the variance of its S means estimates,
  on S − 1 degrees of freedom, as everywhere.
* What is estimated: the mean of the two chosen cells, weighted by groups. A claim is one about the
  projector *as tuned on half of the clips*, not about a cell.

Two things are no part of V. The folds are not independent, as each clip chooses once and reports
once; the simulation in ``docs/ranking.md`` says what that costs. And nothing else may have seen the
reported half: weights kept by validation loss are chosen by a half too, so cross-fitted cells keep
their last epoch or are trained once per fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import References
from siglip_study.ranking.rank import Entry
from siglip_study.ranking.selection import Selection, TuningCell, select_cells
from siglip_study.ranking.variance import Array


@dataclass(frozen=True)
class FoldChoice:
    """What each half chose for one projector.

    ``folds`` holds the selections made on half A and on half B; ``cells`` the distinct cells to be
    trained afresh, one or two.
    """

    folds: tuple[Selection, Selection]

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells to train afresh with every report seed."""
        return tuple(dict.fromkeys(fold.chosen for fold in self.folds))

    @property
    def agree(self) -> bool:
        """Whether both halves chose the same cell."""
        return len(self.cells) == 1

    def reporter(self, half: int) -> str:
        """The cell that reports half 0 (A) or 1 (B): the one that the other half chose."""
        return self.folds[1 - half].chosen


@dataclass(frozen=True)
class HalfReport:
    """One projector's report on one half, by the cell that the other half chose.

    ``margins`` is D within the half, ``[S, n_half]``; ``effective`` and ``top_share`` hold one
    value a seed; ``within`` is D within category, shaped like ``margins``.
    """

    cell: str
    margins: ArrayLike
    effective: ArrayLike
    top_share: ArrayLike
    within: ArrayLike | None = None


@dataclass(frozen=True)
class Pooled:
    """A cross-fitted study as :func:`siglip_study.ranking.rank.rank` takes it."""

    entries: dict[str, Entry]
    groups: list[str]
    references: References


def choose_by_fold(on_a: Sequence[TuningCell], on_b: Sequence[TuningCell]) -> dict[str, FoldChoice]:
    """Choose each projector's cell on either half.

    Args:
        on_a: every tuning cell as scored (and gated) on half A.
        on_b: the same cells on half B.

    Raises:
        StudyError: the halves were not scored with the same cells.
    """
    differ = {cell.cell for cell in on_a} ^ {cell.cell for cell in on_b}
    if differ:
        raise StudyError(
            f"cross-fitting: {', '.join(sorted(differ)[:3])} scored on one half only; "
            "expected every tuning cell on both."
        )
    first, second = select_cells(on_a), select_cells(on_b)
    return {label: FoldChoice((first[label], second[label])) for label in first}


def pool(
    choices: Mapping[str, FoldChoice],
    reports: Mapping[str, tuple[HalfReport, HalfReport]],
    groups: tuple[Sequence[str], Sequence[str]],
    references: tuple[References, References],
) -> Pooled:
    """Put both halves together.

    D and diversity are measured within a half (each has its own caption × clip matrix, and its own
    references); diversity and the references' figures are averaged with the halves' clips as
    weights, D of the references with their groups.

    Args:
        choices: what the halves chose.
        reports: projector → its reports on halves A and B.
        groups: source video of each clip of A and of B.
        references: the human captions' figures on A and on B.

    Raises:
        StudyError: a half is reported by a cell that was chosen on it, a source video lies in both
            halves, or the halves have unequal seeds or clips.
    """
    shared = set(groups[0]) & set(groups[1])
    if shared:
        raise StudyError(
            f"cross-fitting: source video '{min(shared)}' has clips in both halves; "
            "expected each in one."
        )
    if set(choices) != set(reports):
        raise StudyError(
            f"cross-fitting: choices for {', '.join(sorted(choices))}, reports of "
            f"{', '.join(sorted(reports))}; expected the same projectors."
        )
    clips = np.array([len(groups[0]), len(groups[1])], dtype=float)
    videos = np.array([len(set(groups[0])), len(set(groups[1]))], dtype=float)
    by_clips, by_videos = clips / clips.sum(), videos / videos.sum()
    entries = {
        label: _entry(label, choices[label], halves, groups, by_clips)
        for label, halves in reports.items()
    }
    return Pooled(
        entries=entries,
        groups=[*groups[0], *groups[1]],
        references=References(
            effective=float(by_clips @ [half.effective for half in references]),
            top_share=float(by_clips @ [half.top_share for half in references]),
            mean_margin=float(by_videos @ [half.mean_margin for half in references]),
            within=None
            if any(half.within is None for half in references)
            else np.concatenate([np.asarray(half.within, dtype=float) for half in references]),
        ),
    )


def _entry(
    label: str,
    choice: FoldChoice,
    halves: tuple[HalfReport, HalfReport],
    groups: tuple[Sequence[str], Sequence[str]],
    weights: Array,
) -> Entry:
    tables = []
    for half, (report, own) in enumerate(zip(halves, groups, strict=True)):
        name = "AB"[half]
        if report.cell != choice.reporter(half):
            raise StudyError(
                f"projector '{label}': half {name} is reported by '{report.cell}'; "
                f"expected '{choice.reporter(half)}', which the other half chose."
            )
        table = np.asarray(report.margins, dtype=float)
        if table.ndim != 2 or table.shape[1] != len(own):
            raise StudyError(
                f"projector '{label}', half {name}: margins of shape {table.shape}; "
                f"expected [seeds, {len(own)}], one a clip."
            )
        tables.append(table)
    if len(tables[0]) != len(tables[1]):
        raise StudyError(
            f"projector '{label}': {len(tables[0])} seeds on half A, {len(tables[1])} on half B; "
            "expected the same."
        )

    def averaged(name: str) -> Array:
        values = [np.atleast_1d(np.asarray(getattr(half, name), dtype=float)) for half in halves]
        return np.asarray(weights @ np.stack(values))

    within = None
    if all(half.within is not None for half in halves):
        within = np.concatenate([np.asarray(half.within, dtype=float) for half in halves], axis=1)
    pooled = np.concatenate(tables, axis=1)
    return Entry(pooled, averaged("effective"), averaged("top_share"), within)
