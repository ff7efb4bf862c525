"""Captioners that know a clip's category and no more, entered as projectors beside one that sees.

Clips and captions are unit vectors, as a scorer makes them; a clip is what all clips share, its
category's part and its own details. Who invents details that are not the clip's knows no more than
the category. Diversity is taken as high for everybody, so that D alone decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from siglip_study.ranking.gate import Candidate, References, gate_all
from siglip_study.ranking.variance import Array, holm
from tools.simulation.trial import ALPHA

#: Entrants that know the category at most, by what they say.
BLIND = (
    "one caption for all",
    "one caption a category",
    "three captions a category, drawn anew by each seed",
    "the category and invented details, anew with each seed",
    "the category and invented details, the same with each seed",
)
#: Entrants that see details: beside the category, and without ever naming it.
SEERS = ("category and details", "details alone")
_WIDTH = 24


@dataclass(frozen=True)
class CategoryWorld:
    """One kind of study with categories of equal size.

    Attributes:
        n_clips: clips of the report split.
        n_categories: categories, each of ``n_clips / n_categories`` clips.
        n_seeds: S.
        detail: weight of the clip's own details in the captions of those that see.
        kind: weight of the category in clips and captions.
        pairs: clips come in pairs from one video that share half of their details.
    """

    n_clips: int = 60
    n_categories: int = 4
    n_seeds: int = 3
    detail: float = 0.15
    kind: float = 1.0
    pairs: bool = False


@dataclass(frozen=True)
class CategoryOutcome:
    """Shares of studies, without and with the demand for D within category.

    Attributes:
        above: a captioner of the category at most is ranked, and stands above a grounded seer.
        false: one of them is called grounded.
        grounded: each of ``SEERS`` is, ``(without, with)``.
        power: with which both tests at Holm's strictest step, as if nobody else were grounded,
            find each of ``SEERS``.
        asked: the human captions pass, so that D within category is asked for.
    """

    above: tuple[float, float]
    false: tuple[float, float]
    grounded: tuple[tuple[float, float], ...]
    power: tuple[float, ...]
    asked: float


def worlds() -> list[tuple[str, CategoryWorld]]:
    """The kinds of worlds of the documented table, by name."""
    small = CategoryWorld()
    return [
        ("60 clips, 4 categories", small),
        ("60 clips, 4 categories, faint details", replace(small, detail=0.1)),
        ("60 clips, 12 categories", replace(small, n_categories=12)),
        ("60 clips, 20 categories", replace(small, n_categories=20)),
        ("60 clips in pairs, 3 categories", replace(small, pairs=True, n_categories=3)),
        ("96 clips, 8 categories", replace(small, n_clips=96, n_categories=8)),
        (
            "96 clips, 8 loud categories",
            replace(small, n_clips=96, n_categories=8, kind=3.0, detail=0.25),
        ),
        ("400 clips, 20 categories", replace(small, n_clips=400, n_categories=20, detail=0.05)),
    ]


def margins(scores: Array) -> Array:
    """D of many matrices at once, ``[..., n, n]`` → ``[..., n]``; see ``metrics.grounding``."""
    n = scores.shape[-1]
    own = np.diagonal(scores, axis1=-2, axis2=-1)
    rows = (scores.sum(axis=-1) - own) / (n - 1)
    columns = (scores.sum(axis=-2) - own) / (n - 1)
    grand = rows.mean(axis=-1, keepdims=True)
    return np.asarray(own - grand - (n - 1) / (n - 2) * (rows + columns - 2 * grand))


def margins_within(scores: Array, n_categories: int) -> Array:
    """D within category of clips that lie category by category, ``[..., n, n]`` → ``[..., n]``."""
    n = scores.shape[-1]
    m = n // n_categories
    blocks = scores.reshape(*scores.shape[:-2], n_categories, m, n_categories, m)
    # The diagonal over categories comes last: [..., m, m, C].
    own = np.moveaxis(np.diagonal(blocks, axis1=-4, axis2=-2), -1, -3)
    return margins(own).reshape(*scores.shape[:-2], n)


def _unit(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def draw(world: CategoryWorld, rng: np.random.Generator) -> tuple[Array, Array]:
    """Scores of the entrants ``[P, S, n, n]`` (``BLIND``, then ``SEERS``) and the humans'."""
    n, c, s = world.n_clips, world.n_categories, world.n_seeds
    member = np.repeat(np.arange(c), n // c)

    def normal(*shape: int) -> Array:
        return rng.standard_normal((*shape, _WIDTH))

    kinds = world.kind * normal(c)
    details, common = normal(n), 2.0 * normal(1)
    if world.pairs:
        details = (details + np.repeat(normal(n // 2), 2, axis=0)) / np.sqrt(2)
    clips = _unit(common + kinds[member] + details)
    phrases = normal(c, 3)[member[None], rng.integers(3, size=(s, n))]
    said = np.zeros((len(BLIND) + len(SEERS), s, n, _WIDTH))
    said[1:] = kinds[member]
    said[2] += phrases
    said[3] += normal(s, n)
    said[4] += normal(n)
    seen = world.detail * details + normal(s, n)
    said[5] += seen
    said[6] = seen
    human = _unit(common + kinds[member] + details + 0.5 * normal(n))
    return _unit(common + said) @ clips.T, human @ clips.T


def _grouped(world: CategoryWorld, values: Array) -> Array:
    """Means over source videos, which are pairs of neighbours or single clips."""
    if not world.pairs:
        return values
    return np.asarray(values.reshape(*values.shape[:-1], -1, 2).mean(axis=-1))


def play(world: CategoryWorld, n_worlds: int, seed: int) -> CategoryOutcome:
    """Gate ``n_worlds`` studies of one kind."""
    rng = np.random.default_rng(seed)
    labels = (*BLIND, *SEERS)
    first = len(BLIND)
    high = [0.9] * world.n_seeds, [0.03] * world.n_seeds
    passed = np.zeros((n_worlds, 2, len(labels)), dtype=bool)
    means, strictest = np.zeros((2, n_worlds, len(labels)))
    asked = 0
    for i in range(n_worlds):
        scores, human = draw(world, rng)
        table = _grouped(world, margins(scores))
        within = _grouped(world, margins_within(scores, world.n_categories))
        reference = References(
            0.9,
            0.03,
            float(margins(human).mean()),
            _grouped(world, margins_within(human, world.n_categories)),
        )
        told = gate_all(
            {label: Candidate(*high, table[p], within[p]) for p, label in enumerate(labels)},
            reference,
        )
        alone = holm([told[label].margin.p for label in labels]) <= ALPHA
        passed[i] = alone, [told[label].may_be_ranked for label in labels]
        means[i] = table.mean(axis=(1, 2))
        p = [(told[label].margin.p, told[label].within) for label in labels]
        weaker = np.array([max(margin, own.p) for margin, own in p if own is not None])
        if len(weaker):
            asked += 1
            strictest[i] = weaker <= ALPHA / len(labels)
    blind, seers = passed[..., :first], passed[..., first:]
    higher = means[:, None, :first, None] > means[:, None, None, first:]
    above = (blind[..., None] & seers[:, :, None] & higher).any(axis=(2, 3))
    return CategoryOutcome(
        above=_pair(np.asarray(above)),
        false=_pair(np.asarray(blind.any(axis=-1))),
        grounded=tuple(_pair(seers[..., k]) for k in range(len(SEERS))),
        power=tuple(float(x) for x in strictest[:, first:].mean(axis=0)),
        asked=asked / n_worlds,
    )


def _pair(share: Array) -> tuple[float, float]:
    without, with_demand = share.mean(axis=0)
    return float(without), float(with_demand)


def summary(rows: Sequence[tuple[str, CategoryOutcome]]) -> list[str]:
    """Markdown table: one line a kind of world, shares in % without → with the demand."""
    lines = [
        "| clips | blind above grounded % | any blind grounded % "
        "| sees category and details: grounded % | strictest step % "
        "| sees details alone: grounded % | strictest step % |",
        "|---|---|---|---|---|---|---|",
    ]

    def shift(pair: tuple[float, float]) -> str:
        return f"{100 * pair[0]:.1f} → {100 * pair[1]:.1f}"

    for name, outcome in rows:
        seers = [
            cell
            for pair, power in zip(outcome.grounded, outcome.power, strict=True)
            for cell in (shift(pair), f"{100 * power:.1f}")
        ]
        lines.append(
            f"| {' | '.join([name, shift(outcome.above), shift(outcome.false), *seers])} |"
        )
    return lines
