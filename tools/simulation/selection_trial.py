"""What passing over tuning cells of the category alone gains and costs, where the truth is known.

Clips and captions are those of :mod:`tools.simulation.category_trial`. One projector has
several tuning cells, which differ in how loudly their captions name the category and how much of
the clip's own details they hold. One is chosen on the selection clips and gated on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from siglip_study.ranking.gate import GateVerdict, References, gate
from siglip_study.ranking.selection import TuningCell, select_cells
from siglip_study.ranking.variance import Array
from tools.simulation.category_trial import margins, margins_within

_WIDTH = 24


@dataclass(frozen=True)
class TuningWorld:
    """One kind of study.

    Attributes:
        cells: weight of the category and of the clip's details in the captions of each cell.
        n_clips: clips of either split.
        n_categories: categories of equal size.
        n_seeds: seeds of the chosen cell on the report clips.
    """

    cells: tuple[tuple[float, float], ...]
    n_clips: int = 60
    n_categories: int = 4
    n_seeds: int = 3


@dataclass(frozen=True)
class TuningOutcome:
    """Each ``(highest D, as the study chooses)``.

    Attributes:
        blind: share of studies whose chosen cell holds no details.
        grounded: share of studies whose projector is grounded on the report clips.
        margin: mean D of the chosen cell on the report clips, as a share of the best cell's.
    """

    blind: tuple[float, float]
    grounded: tuple[float, float]
    margin: tuple[float, float]


def worlds() -> list[tuple[str, TuningWorld]]:
    """The kinds of worlds of the documented table, by name."""
    loud = TuningWorld(((1.0, 0.0), (0.7, 0.15)))
    return [
        ("a louder cell of the category beside one that sees", loud),
        ("the same with 24 clips of a split", replace(loud, n_clips=24)),
        (
            "three of the category beside one that sees",
            TuningWorld((*[(1.0, 0.0)] * 3, (0.7, 0.15))),
        ),
        ("all see, equally", TuningWorld(((1.0, 0.15),) * 4)),
        ("all see, equally, 24 clips of a split", TuningWorld(((1.0, 0.15),) * 4, n_clips=24)),
        ("all see, one more than the others", TuningWorld(((1.0, 0.15), *[(1.0, 0.1)] * 3))),
        ("all see, the louder less", TuningWorld(((1.0, 0.08), (0.7, 0.15)))),
        ("all of the category", TuningWorld(((1.0, 0.0),) * 4)),
    ]


def _unit(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def _scores(
    world: TuningWorld, kinds: Array, common: Array, runs: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Scores of each cell's runs on fresh clips ``[K, runs, n, n]``, and the humans'."""
    n = world.n_clips
    kind = kinds[np.repeat(np.arange(world.n_categories), n // world.n_categories)]
    details = rng.standard_normal((n, _WIDTH))
    clips = _unit(common + kind + details)
    weights = np.array(world.cells)[:, :, None, None, None]
    said = weights[:, 0] * kind + weights[:, 1] * details
    said = said + rng.standard_normal((len(world.cells), runs, n, _WIDTH))
    human = _unit(common + kind + details + 0.5 * rng.standard_normal((n, _WIDTH)))
    return _unit(common + said) @ clips.T, human @ clips.T


def play(world: TuningWorld, n_worlds: int, seed: int) -> TuningOutcome:
    """Choose and gate in ``n_worlds`` studies of one kind."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros((n_worlds, 2), dtype=int)
    grounded = np.zeros((n_worlds, 2), dtype=bool)
    margin = np.zeros((n_worlds, len(world.cells)))
    for i in range(n_worlds):
        kinds = rng.standard_normal((world.n_categories, _WIDTH))
        common = 2.0 * rng.standard_normal(_WIDTH)
        told = _gated(world, *_scores(world, kinds, common, 1, rng))
        means = [verdict.margin.mean for verdict in told]
        cells = [
            TuningCell(str(k), "p", mean, verdict.verdict, 1e-3, 1)
            for k, (mean, verdict) in enumerate(zip(means, told, strict=True))
        ]
        chosen[i] = int(np.argmax(means)), int(select_cells(cells)["p"].chosen or 0)
        told = _gated(world, *_scores(world, kinds, common, world.n_seeds, rng))
        grounded[i] = [told[k].may_be_ranked for k in chosen[i]]
        margin[i] = [verdict.margin.mean for verdict in told]
    best = margin.mean(axis=0).max()
    blind = np.array([detail == 0 for _, detail in world.cells])
    taken = np.take_along_axis(margin, chosen, axis=1)
    return TuningOutcome(_pair(blind[chosen]), _pair(grounded), _pair(taken / best))


def _gated(world: TuningWorld, scores: Array, human: Array) -> list[GateVerdict]:
    table, within = margins(scores), margins_within(scores, world.n_categories)
    own = margins_within(human, world.n_categories)
    reference = References(0.9, 0.03, float(margins(human).mean()), own)
    high, low = [0.9] * scores.shape[1], [0.03] * scores.shape[1]
    return [gate(high, low, table[k], reference, within=within[k]) for k in range(len(world.cells))]


def _pair(share: Array) -> tuple[float, float]:
    before, after = np.asarray(share).mean(axis=0)
    return float(before), float(after)


def summary(rows: Sequence[tuple[str, TuningOutcome]]) -> list[str]:
    """Markdown table: one line a kind of world, in % by highest D → as the study chooses."""
    lines = [
        "| tuning cells | chosen one knows the category alone % | projector grounded % "
        "| its D, of the best cell's % |",
        "|---|---|---|---|",
    ]
    for name, outcome in rows:
        pairs = (outcome.blind, outcome.grounded, outcome.margin)
        shifts = [f"{100 * a:.1f} → {100 * b:.1f}" for a, b in pairs]
        lines.append(f"| {' | '.join([name, *shifts])} |")
    return lines
