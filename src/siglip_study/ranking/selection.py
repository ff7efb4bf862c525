"""Which tuning cell of each projector is trained afresh, and which clips its fresh runs report.

With separate splits the selection clips choose, and the report clips are reported. Where one
held-out split is halved by source video, each half chooses for the other (cross-fitting), so that
every held-out clip is reported once, by a cell that was chosen without it. What that costs, and
what a claim is then about, is in ``docs/ranking.md``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_result, write_json
from siglip_study.config.axes import EPOCHS, RATE
from siglip_study.ranking.gate import GateThresholds, GateVerdict, Verdict, gate_all
from siglip_study.ranking.seen import reference_figures, seen_runs
from siglip_study.scoring.score_files import read_scores
from siglip_study.study.cells import Cell
from siglip_study.study.grid import SELECTION_SCHEMA

#: The gate's words, the worst first.
WORST_FIRST: tuple[Verdict, ...] = (
    "collapsed",
    "unstable",
    "category_only",
    "ungrounded",
    "undetermined",
    "grounded",
)


@dataclass(frozen=True)
class TuningCell:
    """One tuning cell as captioned on the selection split.

    ``mean_margin`` is mean M, over its tuning seeds if there are several; ``gate`` the gate's word
    on it there, ``verdict`` all that it found. ``runs`` names its run of each seed, ``cell`` being
    the first. ``settings`` are its values on other axes than rate and epochs, by dotted key.
    """

    cell: str
    projector: str
    mean_margin: float
    gate: Verdict
    learning_rate: float
    epochs: float
    verdict: GateVerdict | None = None
    runs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def run_gate(self, run: str) -> Verdict:
        """The gate's word on one of several runs by itself; on the cell, where it is the only."""
        if self.verdict is None or len(self.runs) < 2:
            return self.gate
        return self.verdict.runs[self.runs.index(run)].verdict

    @property
    def run_margins(self) -> tuple[float, ...]:
        """Mean M of each run."""
        return tuple(run.margin.mean for run in self.verdict.runs) if self.verdict else ()


@dataclass(frozen=True)
class Selection:
    """The chosen cell of one projector.

    ``gate`` is the gate's word on the chosen cell, on the clips that chose it: ``collapsed`` only
    where all collapsed, ``category_only`` only where none was grounded. ``passed_over`` names the
    cells of higher M, ``n_collapsed`` and ``n_category_only`` count those that the gate called so.

    ``reports`` says which cell reports which held-out split, or half of one; ``chosen`` is ``None``
    where the halves chose two.
    """

    chosen: str | None
    mean_margin: float
    gate: Verdict
    n_cells: int
    n_collapsed: int
    n_category_only: int
    passed_over: tuple[str, ...]
    cells: tuple[TuningCell, ...]
    reports: Mapping[str, str] = field(default_factory=dict)

    @property
    def eligible(self) -> tuple[TuningCell, ...]:
        """The cells among which M chose: all where all collapsed."""
        refused = _refused([cell.gate for cell in self.cells])
        return tuple(cell for cell in self.cells if cell.gate not in refused) or self.cells

    @property
    def n_tuning_seeds(self) -> int:
        """Runs of each tuning cell."""
        return max([1, *(len(cell.runs) for cell in self.cells)])


@dataclass(frozen=True)
class StudySelection:
    """``selection.json``: projector → what was chosen for it.

    ``halves`` holds what each half of one held-out split chose for the other, by the half that
    chose; ``projectors`` then sums up.
    """

    projectors: Mapping[str, Selection]
    halves: Mapping[str, Mapping[str, Selection]] = field(default_factory=dict)

    def choices_of(self, projector: str) -> list[Selection]:
        """What was chosen for a projector, by each set of clips that chose."""
        if self.halves:
            return [own[projector] for own in self.halves.values() if projector in own]
        return [self.projectors[projector]] if projector in self.projectors else []


def write_selection(path: Path, selection: StudySelection) -> None:
    """Write ``selection.json``."""
    write_json(path, asdict(selection), SELECTION_SCHEMA)


def read_selection(path: Path) -> StudySelection:
    """Read it.

    Raises:
        StudyError: the file is missing or follows another schema.
    """
    return read_result(path, StudySelection, SELECTION_SCHEMA)


def worse(a: Verdict, b: Verdict) -> Verdict:
    """The less favourable of two verdicts."""
    return min(a, b, key=WORST_FIRST.index)


def select_cells(cells: Sequence[TuningCell]) -> dict[str, Selection]:
    """Choose for each projector the cell with the highest mean M among those not passed over.

    Passed over are collapsed cells, and where another cell of the projector is grounded those of
    the category alone, and those of which a tuning seed failed and another did not. With none
    grounded the gate has shown no cell to do what it asks, and the lack of a proof in one is no
    reason to prefer another. Where all collapsed, the highest of them is chosen and marked, so that
    the projector still appears and is gated on the report split.
    Ties: fewer epochs, lower rate, then name. Projectors keep the order in which they first appear.

    Raises:
        StudyError: a margin is not finite, or a cell appears twice.
    """
    by_projector: dict[str, list[TuningCell]] = {}
    seen: set[str] = set()
    for cell in cells:
        if not math.isfinite(cell.mean_margin):
            raise StudyError(
                f"tuning cell '{cell.cell}': mean margin is {cell.mean_margin}; "
                "expected a finite number."
            )
        if cell.cell in seen:
            raise StudyError(f"tuning cell '{cell.cell}' appears twice; expected one row a cell.")
        seen.add(cell.cell)
        by_projector.setdefault(cell.projector, []).append(cell)
    return {projector: _select(own) for projector, own in by_projector.items()}


def _refused(words: Collection[Verdict]) -> tuple[Verdict, ...]:
    """The gate's words for which a cell is passed over, where its projector's have ``words``."""
    if "grounded" in words:
        return "collapsed", "unstable", "category_only"
    return ("collapsed",)


def _select(cells: Sequence[TuningCell]) -> Selection:
    words = [cell.gate for cell in cells]
    refused = _refused(words)

    def order(cell: TuningCell) -> tuple[object, ...]:
        return cell.gate in refused, -cell.mean_margin, cell.epochs, cell.learning_rate, cell.cell

    best = min(cells, key=order)
    return Selection(
        chosen=best.cell,
        mean_margin=best.mean_margin,
        gate=best.gate,
        n_cells=len(cells),
        n_collapsed=words.count("collapsed"),
        n_category_only=words.count("category_only"),
        passed_over=tuple(c.cell for c in cells if c.mean_margin > best.mean_margin),
        cells=tuple(cells),
    )


# ---- From the scores of the tuning cells to ``selection.json``.


#: A tuning cell's runs, one a tuning seed, each with the folder of its scores.
ScoredRuns = Sequence[tuple[Cell, Path]]


def tuned_cells(
    cells: Sequence[ScoredRuns],
    references: Path,
    thresholds: GateThresholds,
    half: str | None = None,
) -> list[TuningCell]:
    """Every tuning cell as it is chosen by: mean M and the gate's word on one set of clips.

    Each cell is gated by itself: Holm's correction belongs to claims on the report split, and here
    would let the size of the grid decide which cells are passed over. Of several tuning seeds it
    sees the mean, by clips alone as of one: with what two seeds tell of seeds it would show fewer
    cells grounded, and choose those of the category alone more often (5 to 15 % in the first world
    of ``selection_trial``, 3 % so). A cell of which one seed failed is *unstable*. Arguments as of
    :func:`select_tuned`; ``half`` is the one that chooses, where a held-out split is halved.
    """
    human = reference_figures(references, half)
    _, clips = read_scores(references, half)
    groups = clips["group"].to_list()
    rows = []
    for runs in cells:
        cell = runs[0][0]
        own = seen_runs([folder for _, folder in runs], clips, half).candidate(groups)
        verdict = gate_all({cell.name: own}, human, thresholds, clips_only=True)[cell.name]
        rows.append(
            TuningCell(
                cell=cell.name,
                projector=cell.label,
                mean_margin=verdict.margin.mean,
                gate=verdict.verdict,
                learning_rate=cell.run.stage2.learning_rate,
                epochs=cell.run.stage2.epochs,
                verdict=verdict,
                runs=tuple(run.name for run, _ in runs),
                settings={
                    key: value for key, value in cell.settings.items() if key not in (RATE, EPOCHS)
                },
            )
        )
    return rows


def select_tuned(
    cells: Sequence[ScoredRuns],
    references: Path,
    thresholds: GateThresholds,
    out: Path,
    halves: Sequence[str] = (),
) -> None:
    """Choose each projector's cell and write ``selection.json``.

    Args:
        cells: tuning cells: the runs of each, with the folders of their scores.
        references: folder of the human captions' scores on the clips that choose.
        thresholds: of the gate.
        out: the JSON file.
        halves: the two that choose for each other, under cross-fitting.
    """
    if halves:
        write_selection(out, _by_halves(cells, references, thresholds, halves))
        return
    found = select_cells(tuned_cells(cells, references, thresholds))
    chosen = {k: replace(own, reports={"report": str(own.chosen)}) for k, own in found.items()}
    write_selection(out, StudySelection(chosen))


def _by_halves(
    cells: Sequence[ScoredRuns],
    references: Path,
    thresholds: GateThresholds,
    halves: Sequence[str],
) -> StudySelection:
    """Each half's choice for the other.

    In the sum of both, figures are means over the halves, and the gate's word on a cell is the
    worse of the two: it counts as collapsed if it did on either.
    """
    seen = [tuned_cells(cells, references, thresholds, half) for half in halves]
    first, second = (select_cells(rows) for rows in seen)
    projectors = {}
    for label, a in first.items():
        b = second[label]
        own = tuple(map(_over_both, a.cells, b.cells))
        projectors[label] = Selection(
            chosen=a.chosen if a.chosen == b.chosen else None,
            mean_margin=(a.mean_margin + b.mean_margin) / 2,
            gate=worse(a.gate, b.gate),
            n_cells=len(own),
            n_collapsed=sum(cell.gate == "collapsed" for cell in own),
            n_category_only=sum(cell.gate == "category_only" for cell in own),
            passed_over=tuple(sorted({*a.passed_over, *b.passed_over})),
            cells=own,
            # Who was chosen on one half reports the other.
            reports=dict(zip(halves, (str(b.chosen), str(a.chosen)), strict=True)),
        )
    return StudySelection(projectors, dict(zip(halves, (first, second), strict=True)))


def _over_both(a: TuningCell, b: TuningCell) -> TuningCell:
    """A cell's mean M over both halves, and the worse of the gate's words with its reason."""
    gate = worse(a.gate, b.gate)
    told = a if gate == a.gate else b
    mean = (a.mean_margin + b.mean_margin) / 2
    return replace(a, mean_margin=mean, gate=gate, verdict=told.verdict)
