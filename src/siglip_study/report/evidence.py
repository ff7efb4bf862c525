"""What the claims rest on: pairs, single runs, and where each metric's variance comes from.

Views of the ranking and of the runs behind it, for the page and for the published tables alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import FAILED, RunVerdict
from siglip_study.ranking.metric_figures import MARGIN
from siglip_study.ranking.outlook import POWER
from siglip_study.ranking.pairs import PairTest, Run, RunInfluence
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


@dataclass(frozen=True)
class Estimate:
    """A figure of one run with its 95 % interval over clips, ``None`` where it has none."""

    value: float | None
    low: float | None
    high: float | None


#: Shares of clips, each with Wilson's interval, that stand beside a run's M.
SHARES = ("auc", "retrieval_r1", "retrieval_r5")


@dataclass(frozen=True)
class RunView:
    """One report run by itself.

    Attributes:
        run: the run, as the ranking names it.
        seed: its seed.
        cell: its name.
        gate: the gate's word on it alone.
        margin: M.
        effective_captions: in (0, 1].
        sentences: mean sentences a caption.
        shares: metrics of :data:`SHARES`, by name.
    """

    run: Run
    seed: int | None
    cell: str
    gate: RunVerdict
    margin: Estimate
    effective_captions: float | None
    sentences: float | None
    shares: dict[str, Estimate]

    @property
    def projector(self) -> str:
        """Label of the projector."""
        return self.run.projector


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
            found.append(
                RunView(
                    run=Run(own.projector, place),
                    seed=cell.seed,
                    cell=cell.name,
                    gate=gated.verdict,
                    margin=_estimate(cell, MARGIN),
                    effective_captions=cell.value("effective_captions"),
                    sentences=cell.value("sentences"),
                    shares={metric: _estimate(cell, metric) for metric in SHARES},
                )
            )
    return found


def _estimate(cell: CellResult, metric: str) -> Estimate:
    return Estimate(*(cell.value(metric, part) for part in ("value", "low", "high")))


def run_sentences(ranking: Ranking, runs: Sequence[RunView]) -> list[Text]:
    """Whose runs failed, and what runs that are all sound can exclude."""
    failed: dict[str, list[tuple[int | None, RunVerdict]]] = {}
    for run in runs:
        if run.gate in FAILED:
            failed.setdefault(run.projector, []).append((run.seed, run.gate))
    told = [failed_runs(label, own, ranking.n_seeds) for label, own in failed.items()]
    return [*told, sound_runs(ranking.n_seeds, ranking.alpha)]


# ---- What leaving out one run does.


@dataclass(frozen=True)
class RunInfluenceView:
    """A pair without each of its runs, which have their names.

    ``run`` makes the largest change; the claim is lost without any one of ``lost_without``.
    """

    found: RunInfluence
    run: Text
    lost_without: tuple[Text, ...]


@dataclass(frozen=True)
class RunInfluences:
    """Every pair, in the ranking's order, and the finding in a sentence."""

    sentence: Text
    pairs: tuple[RunInfluenceView, ...]


def run_influences(ranking: Ranking, runs: Sequence[RunView]) -> RunInfluences | None:
    """What single runs carry; ``None`` with one seed."""
    if not ranking.run_influence:
        return None
    names = {run.run: seed_of(run.projector, run.seed) for run in runs}
    return RunInfluences(
        run_influence(ranking.run_influence, names),
        tuple(
            RunInfluenceView(own, names[own.run], tuple(names[run] for run in own.lost_without))
            for own in ranking.run_influence
        ),
    )


# ---- Where the variance comes from.


@dataclass(frozen=True)
class VarianceView:
    """Variance of one metric by source; ``lead`` marks M, which ranks."""

    metric: str
    parts: Components
    lead: bool

    @property
    def total(self) -> float:
        """Sum of all parts, in squared units of the metric."""
        own = self.parts
        return own.projector + own.seed + own.clip + own.interaction + own.residual

    @property
    def projector_sd(self) -> float:
        """SD between projectors, in units of the metric."""
        return math.sqrt(self.parts.projector)

    def share(self, part: float) -> float | None:
        """A part's share of the sum; ``None`` where nothing varies."""
        return part / self.total if self.total > 0 else None


def variance_views(ranking: Ranking) -> list[VarianceView]:
    """Metrics by falling signal-to-noise, those that have none last; empty with one seed."""
    found = [
        VarianceView(own.metric, own.components, own.metric == MARGIN)
        for own in ranking.metrics
        if own.components is not None
    ]
    return sorted(found, key=_rank_of_signal)


def _rank_of_signal(view: VarianceView) -> tuple[bool, float]:
    ratio = view.parts.signal_to_noise
    return ratio is None, -(ratio or 0.0)


# ---- All of it.


@dataclass(frozen=True)
class Evidence:
    """What the page shows of the evidence; ``run_sentences`` stand above the runs."""

    pairs: tuple[PairView, ...]
    runs: tuple[RunView, ...]
    run_sentences: tuple[Text, ...]
    run_influence: RunInfluences | None
    variance: tuple[VarianceView, ...]


def evidence(ranking: Ranking, cells: list[CellResult]) -> Evidence:
    """All views of one study."""
    runs = run_views(ranking, cells)
    return Evidence(
        pairs=tuple(pair_views(ranking)),
        runs=tuple(runs),
        run_sentences=tuple(run_sentences(ranking, runs)),
        run_influence=run_influences(ranking, runs),
        variance=tuple(variance_views(ranking)),
    )


# ---- The strongest findings in sentences: what stands above the evidence.

#: Claimed differences that are told one by one; of more it says how many.
CLAIMS = 4


def findings(
    ranking: Ranking,
    controls: Sequence[dict[str, Any]],
    cells: list[CellResult],
) -> tuple[Text, ...]:
    """Claims first, then what the score does not see, then what came out otherwise than it must.

    Args:
        ranking: of the study.
        controls: rows of the ``controls`` table.
        cells: every captioner.
    """
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
