"""What the claims rest on: pairs, single runs, and where each metric's variance comes from.

Views of the ranking and of the runs behind it, for the page and for the published tables alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import FAILED, RunVerdict
from siglip_study.ranking.outlook import POWER
from siglip_study.ranking.pairs import PairTest, Run
from siglip_study.ranking.procedure import Ranking
from siglip_study.ranking.scores import Components
from siglip_study.report.controls import EXPECTATIONS, M
from siglip_study.report.first_screen import motion_known
from siglip_study.report.language import Text
from siglip_study.report.results import ROLES, CellResult, report_runs
from siglip_study.report.wording import headline
from siglip_study.report.wording.claims import (
    claim_sentence,
    control_failed,
    copying_sentence,
    failed_runs,
    more_claims,
    run_influence,
    seed_of,
    sound_runs,
)
from siglip_study.report.wording.conclusion import answer

# ---- Pairs.


@dataclass(frozen=True)
class PairView:
    """One pair's test; ``better`` is the projector that is claimed to be, if one is."""

    test: PairTest
    better: str | None

    @property
    def weak(self) -> bool:
        """Whether it was claimed with a power under .8: such differences are too large on average,
        and the shrunken one stands beside them."""
        return self.better is not None and self.test.power is not None and self.test.power < POWER


def pair_views(ranking: Ranking) -> list[PairView]:
    """Every pair, in the ranking's order."""
    return [
        PairView(pair, _winner(pair) if pair.significant and ranking.can_rank else None)
        for pair in ranking.pairs
    ]


def _winner(pair: PairTest) -> str:
    return pair.a if pair.difference > 0 else pair.b


# ---- Run by run.

#: Shares of clips, each with Wilson's interval, that stand beside a run's M.
SHARES = ("auc", "retrieval_r1", "retrieval_r5")


@dataclass(frozen=True)
class RunView:
    """One report run: as the ranking names it, its figures, and the gate's word on it alone."""

    run: Run
    cell: CellResult
    gate: RunVerdict


def run_views(ranking: Ranking, cells: list[CellResult]) -> list[RunView]:
    """Every report run, projectors and runs in the ranking's order.

    Raises:
        StudyError: the ranking knows of another number of runs.
    """
    runs = report_runs(cells)
    found = []
    for own in ranking.projectors:
        cells_of = runs.get(own.projector, [])
        if len(own.gate.runs) != len(cells_of):
            raise StudyError(
                f"ranking.json: gates {len(own.gate.runs)} runs of '{own.projector}'; "
                f"expected the {len(cells_of)} that are reported."
            )
        for place, (cell, gated) in enumerate(zip(cells_of, own.gate.runs, strict=True)):
            found.append(RunView(Run(own.projector, place), cell, gated.verdict))
    return found


def run_sentences(ranking: Ranking, runs: Sequence[RunView]) -> list[Text]:
    """Whose runs failed, and what runs that are all sound can exclude."""
    failed: dict[str, list[tuple[int | None, RunVerdict]]] = {}
    for own in runs:
        if own.gate in FAILED:
            failed.setdefault(own.run.projector, []).append((own.cell.seed, own.gate))
    told = [failed_runs(label, own, ranking.n_seeds) for label, own in failed.items()]
    return [*told, sound_runs(ranking.n_seeds, ranking.alpha)]


# ---- Where the variance comes from.


def variance_figures(ranking: Ranking) -> list[tuple[str, Components]]:
    """Metrics by falling signal-to-noise, those that have none last; empty with one seed."""
    found = [(own.metric, own.components) for own in ranking.metrics if own.components]
    ratios = {metric: parts.signal_to_noise for metric, parts in found}
    return sorted(found, key=lambda own: (ratios[own[0]] is None, -(ratios[own[0]] or 0.0)))


# ---- All of it.


@dataclass(frozen=True)
class Evidence:
    """What the page shows of the evidence.

    ``run_sentences`` stand above the runs, ``run_names`` are theirs; ``run_influence`` says what
    leaving one out does, ``None`` with one seed.
    """

    pairs: list[PairView]
    runs: list[RunView]
    run_sentences: list[Text]
    run_names: dict[Run, Text]
    run_influence: Text | None
    variance: list[tuple[str, Components]]


def evidence(ranking: Ranking, cells: list[CellResult]) -> Evidence:
    """All views of one study."""
    runs = run_views(ranking, cells)
    names = {own.run: seed_of(own.run.projector, own.cell.seed) for own in runs}
    influence = ranking.run_influence
    return Evidence(
        pairs=pair_views(ranking),
        runs=runs,
        run_sentences=run_sentences(ranking, runs),
        run_names=names,
        run_influence=run_influence(influence, names) if influence else None,
        variance=variance_figures(ranking),
    )


# ---- The strongest findings in sentences: what stands above the evidence.

#: Claimed differences that are told one by one; of more it says how many.
CLAIMS = 4


def findings(
    ranking: Ranking,
    controls: Sequence[dict[str, Any]],
    cells: list[CellResult],
) -> tuple[Text, ...]:
    """Claims first, then what the score does not see, then what came out otherwise than it must."""
    claimed = [view.test for view in pair_views(ranking) if view.better is not None]
    told = [claim_sentence(test) for test in claimed[:CLAIMS]]
    if len(claimed) > CLAIMS:
        told.append(more_claims(len(claimed) - CLAIMS))
    if not claimed and ranking.pairs:
        told.append(answer(ranking))
    told.append(headline.blind_sentence(ranking, motion_known(cells)))
    told += [
        control_failed(ROLES[row["role"]], EXPECTATIONS[row["role"]], row["gate"])
        for row in controls
        if row["metric"] == M and row["as_expected"] is False
    ]
    if ranking.retrieval is not None:
        told.append(copying_sentence(ranking.retrieval.cleared_by, len(ranking.projectors)))
    return tuple(text for text in told if text)
