"""What one tuning seed loses: how often the best of a projector's cells is chosen, at what cost.

Figures are in M, in units of the demo: .12 in M is .01 in D, and clips give a cell a standard error
of .1 of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.ranking.outlook import chance_best
from siglip_study.ranking.variance import noise_of

#: M over D in the demo.
_M_OF_D = 12.0
#: Projectors and report seeds of the study, whose noise tells how sure a choice was.
_PROJECTORS, _SEEDS, _CLIPS = 4, 3, 60


@dataclass(frozen=True)
class TuningSeeds:
    """One kind of study: true mean M of a projector's cells, SDs of M over seeds and clips."""

    cells: tuple[float, ...]
    seed_sd: float
    n_tuning_seeds: int = 1
    clip_se: float = 0.1


@dataclass(frozen=True)
class Luck:
    """What came of the choice.

    Attributes:
        best: share of studies that chose the best cell.
        loss: M that the chosen cell lacks on average.
        best_here: share that chose the best cell on the clips that chose, which is no other but for
            what the clips themselves do.
        told: mean probability of that as the report tells it.
    """

    best: float
    loss: float
    best_here: float
    told: float


def worlds() -> list[tuple[str, TuningSeeds]]:
    """The kinds of worlds of the documented table, by what their cells are."""
    kinds = {
        "four, .12 apart": (0.36, 0.24, 0.12, 0.0),
        "one .12 above three": (0.12, 0.0, 0.0, 0.0),
        "four, .5 apart": (1.5, 1.0, 0.5, 0.0),
    }
    return [
        (name, TuningSeeds(cells, _M_OF_D * sd, times))
        for name, cells in kinds.items()
        for sd in (0.005, 0.054)
        for times in (1, 2, 3)
    ]


def play(world: TuningSeeds, n_worlds: int, seed: int) -> Luck:
    """Choose by the mean over tuning seeds in ``n_worlds`` studies of one kind."""
    rng = np.random.default_rng(seed)
    truth = np.array(world.cells)
    here = truth + world.clip_se * rng.standard_normal((n_worlds, len(truth)))
    seeds = rng.standard_normal((n_worlds, len(truth), world.n_tuning_seeds)).mean(axis=-1)
    seen = here + world.seed_sd * seeds
    chosen = seen.argmax(axis=1)
    # What the report knows of seeds: three runs of each of four equally noisy projectors.
    runs = world.seed_sd * rng.standard_normal((n_worlds, _PROJECTORS, _SEEDS))
    noise = noise_of(runs, 0.0, _CLIPS)
    charged = np.maximum(noise.spread[:, 0], noise.least_spread) / world.n_tuning_seeds
    told = [chance_best(own, float(v)) for own, v in zip(seen.tolist(), charged, strict=True)]
    return Luck(
        best=float((chosen == truth.argmax()).mean()),
        loss=float((truth.max() - truth[chosen]).mean()),
        best_here=float((chosen == here.argmax(axis=1)).mean()),
        told=float(np.mean(told)),
    )


def summary(rows: Sequence[tuple[str, TuningSeeds, Luck]]) -> list[str]:
    """Markdown table: one line a kind of world."""
    lines = [
        "| cells | SD over seeds, M (D) | tuning seeds | runs | best chosen % | M lost "
        "| best on these clips % | … as the report tells % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, world, luck in rows:
        cells = [
            name,
            f"{world.seed_sd:.2f} ({world.seed_sd / _M_OF_D:.3f})",
            str(world.n_tuning_seeds),
            str(world.n_tuning_seeds * len(world.cells)),
            f"{100 * luck.best:.0f}",
            f"{luck.loss:.3f}",
            f"{100 * luck.best_here:.0f}",
            f"{100 * luck.told:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
