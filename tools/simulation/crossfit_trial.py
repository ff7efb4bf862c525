"""Cross-fitting in worlds whose truth is known, beside reporting one half and beside cheating."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from siglip_study.ranking.choice import choice_variance, half_choice
from siglip_study.ranking.outlook import POWER
from siglip_study.ranking.pairs import pair_arrays
from siglip_study.ranking.variance import Array, contrast_variance, seed_noise, t_quantile
from siglip_study.ranking.variance import two_sided_p as p_value
from tools.simulation.trial import ALPHA

#: ``cross-fitted``; ``one half``: A chooses, B is reported; ``no split``: all clips choose and are
#: reported.
Design = Literal["cross-fitted", "one half", "no split"]
BATCH = 2_000_000


@dataclass(frozen=True)
class TunedWorld:
    """A study that chooses among tuned cells, all projectors equally good.

    A score is (clip) + (projector × clip) + (cell × clip) + (seed) + (seed × clip); all but the
    first and the seed part together have variance 1.

    Attributes:
        n_clips: held-out clips, both halves.
        n_projectors: P.
        n_seeds: S.
        n_cells: cells tuned, of each projector.
        seed_sd: SD of the seed part, as a multiple of 1/√n_clips.
        cell_spread: SD of the cells' true means in the same unit, the same cells for every
            projector; 0: all equal, so that chance alone chooses.
        cell_share: share of the unit variance that belongs to cell × clip: what links a clip that
            chose a cell to the clip as it is reported.
        interaction: share that is redrawn with each seed; the rest is projector × clip.
    """

    n_clips: int = 97
    n_projectors: int = 4
    n_seeds: int = 3
    n_cells: int = 4
    seed_sd: float = 1.0
    cell_spread: float = 0.0
    cell_share: float = 0.25
    interaction: float = 0.5


@dataclass(frozen=True)
class TunedOutcome:
    """Shares of worlds: a false strict order, coverage of differences and of means.

    A strict order is false if it contradicts the order of the true means of what was chosen, or if
    those are equal. ``bias`` is the mean error of a projector's mean and ``detectable`` the
    smallest detectable difference, both in units of 1/√n_clips. ``agree``: both halves chose one
    cell.
    """

    false_order: float
    coverage: float
    mean_coverage: float
    bias: float
    detectable: float
    agree: float


def play(world: TunedWorld, n_worlds: int, seed: int, design: Design) -> TunedOutcome:
    """Run ``n_worlds`` studies under one design."""
    rng = np.random.default_rng(seed)
    width = world.n_projectors * world.n_clips * (world.n_cells + world.n_seeds)
    size = max(1, min(n_worlds, BATCH // width))
    total = np.zeros(6)
    for start in range(0, n_worlds, size):
        studies = _studies(world, min(size, n_worlds - start), rng, design)
        total += _judge(world, studies)
    return TunedOutcome(*(float(value) for value in total / n_worlds))


@dataclass(frozen=True)
class Studies:
    """Scores as reported ``[n, P, S, G]``, the truth of their means ``[n, P]``, what the choice
    adds to their variance ``[n, P]``, and whether both halves chose one cell ``[n, P]``."""

    y: Array
    truth: Array
    choice: Array
    agree: Array


def _studies(world: TunedWorld, n: int, rng: np.random.Generator, design: Design) -> Studies:
    p, k, s, g = world.n_projectors, world.n_cells, world.n_seeds, world.n_clips
    unit = 1 / np.sqrt(g)
    half = np.arange(g) >= g // 2  # False: A, True: B
    own = np.sqrt(max(0.0, 1 - world.interaction - world.cell_share))
    fixed = rng.standard_normal((n, 1, 1, g)) + own * rng.standard_normal((n, p, 1, g))
    cells = fixed + np.sqrt(world.cell_share) * rng.standard_normal((n, p, k, g))
    truth = np.broadcast_to(rng.standard_normal((n, 1, k)) * world.cell_spread * unit, (n, p, k))
    seed_sd = world.seed_sd * unit
    tuned = truth + seed_sd * rng.standard_normal((n, p, k))
    redrawn = np.sqrt(world.interaction)
    seen = cells + redrawn * rng.standard_normal((n, p, k, g))
    picks = [
        (tuned + seen[..., part].mean(axis=-1)).argmax(axis=-1)[..., None]
        for part in (~half, half, np.ones(g, dtype=bool))
    ]
    # Who reports A, who reports B.
    reporters = {
        "cross-fitted": (picks[1], picks[0]),
        "one half": (picks[0], picks[0]),
        "no split": (picks[2], picks[2]),
    }[design]
    agree = reporters[0] == reporters[1]
    seeds = seed_sd * rng.standard_normal((2, n, p, s))
    seeds[1] = np.where(agree, seeds[0], seeds[1])
    again = redrawn * rng.standard_normal((n, p, s, g))
    parts, truths, choices = [], [], []
    for i, (members, pick) in enumerate(zip((~half, half), reporters, strict=True)):
        if design == "one half" and i == 0:
            continue
        chosen = np.take_along_axis(cells[..., members], pick[..., None], axis=2)  # [n, P, 1, g]
        mean = np.take_along_axis(truth, pick, axis=2)
        parts.append(mean[..., None] + chosen + seeds[i][..., None] + again[..., members])
        truths.append(mean[..., 0] * members.sum())
        choices.append(half_choice(seen[..., members], pick[..., 0], parts[-1]))
    y = np.concatenate(parts, axis=-1)
    choice = np.zeros((n, p))
    if design == "cross-fitted":
        choice = choice + choice_variance(*choices)
    return Studies(y, sum(truths) / y.shape[-1], choice, (picks[0] == picks[1])[..., 0])


def _judge(world: TunedWorld, studies: Studies) -> Array:
    y, truth = studies.y, studies.truth
    noise = replace(seed_noise(y), choice=studies.choice)
    tests = pair_arrays(y, noise)
    first, second = np.triu_indices(world.n_projectors, 1)
    true = truth[:, first] - truth[:, second]
    true = np.where(np.abs(true) < 1e-12, 0.0, true)
    called = tests.p_holm <= ALPHA
    wrong = called & (np.sign(tests.difference) != np.sign(true))
    error = tests.difference - true
    half = t_quantile(1 - ALPHA / 2, tests.df) * np.sqrt(tests.variance)
    strict = t_quantile(1 - ALPHA / (2 * len(first)), tests.df) + t_quantile(POWER, tests.df)
    scores = y.mean(axis=2)
    held = []
    for a in range(world.n_projectors):
        v, df = contrast_variance(scores[:, a], noise, (a,))
        held.append(p_value(scores[:, a].mean(axis=-1) - truth[:, a], v, df, 1.0) > ALPHA)
    unit = np.sqrt(world.n_clips)
    rows = (
        wrong.any(axis=1),
        (np.abs(error) <= half).mean(axis=1),
        np.mean(held, axis=0),
        (scores.mean(axis=-1) - truth).mean(axis=1) * unit,
        (strict * np.sqrt(tests.variance)).mean(axis=1) * unit,
        studies.agree.mean(axis=1),
    )
    return np.array([np.sum(row, dtype=float) for row in rows])


def worlds() -> list[tuple[str, TunedWorld]]:
    """The kinds of worlds of the table, under the names of its rows."""
    equal = TunedWorld()
    kinds = [
        ("equal cells", equal),
        ("equal cells, 2 of each", replace(equal, n_cells=2)),
        ("equal cells, half the noise of the cell", replace(equal, cell_share=0.5, seed_sd=0.0)),
        (
            "equal cells, all noise of the cell",
            replace(equal, cell_share=1.0, interaction=0.0, seed_sd=0.0),
        ),
        ("unequal cells", replace(equal, cell_spread=1.0)),
        ("one cell far better", replace(equal, cell_spread=20.0)),
        ("no seed noise", replace(equal, seed_sd=0.0)),
        ("seeds twice the clips", replace(equal, seed_sd=2.0)),
    ]
    sizes = ((60, 2, 3), (60, 4, 3), (97, 4, 3), (97, 4, 6), (400, 6, 3))
    return [
        (name, replace(world, n_clips=n, n_projectors=p, n_seeds=s))
        for name, world in kinds
        for n, p, s in sizes
    ]
