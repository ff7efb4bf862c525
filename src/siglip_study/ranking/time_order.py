"""Does a projector's model see the order of the frames? D cannot tell: its scorer averages frames.

The loss of each clip's own caption is measured with the clip as it is (*matched*), with its frames
in reverse order (*reversed*) and with another clip's video (*shuffled*). The share of order is what
reversing costs, in units of what another clip's video costs.

Limits: it is the model's surprise at human captions under teacher forcing, and no caption is
looked at; a clip that looks the same in both directions costs nothing; a model may see the order
and not put it into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.ranking.pairs import PairTest, pair_tests
from siglip_study.ranking.scores import Scores, group_means
from siglip_study.ranking.variance import Array, Bounds, bounds_of, holm, seed_noise

#: A share whose upper bound is under this is none: reversing costs less than a twentieth of what
#: another video costs.
BLIND_SHARE = 0.05

OrderVerdict = Literal["sees", "blind", "undetermined"]


@dataclass(frozen=True)
class OrderSeen:
    """What a projector's model makes of the order of frames.

    ``share`` is (reversed − matched) / (shuffled − matched) of mean losses, with its interval at
    1 − alpha; ``None`` where another clip's video costs nothing, so that nothing is seen at all.
    ``sees``: reversing costs something (one-sided, Holm over projectors); ``blind``: the upper
    bound is under :data:`BLIND_SHARE`.
    """

    projector: str
    share: float | None
    low: float | None
    high: float | None
    p_holm: float
    verdict: OrderVerdict


@dataclass(frozen=True)
class TimeOrder:
    """The projectors' shares of order, and the tests between those that have one."""

    projectors: tuple[OrderSeen, ...]
    pairs: tuple[PairTest, ...]

    @property
    def blind(self) -> tuple[str, ...]:
        """Projectors whose models do not see the order of frames."""
        return tuple(own.projector for own in self.projectors if own.verdict == "blind")


@dataclass(frozen=True)
class Losses:
    """Losses of the clips' own captions in nats a token, ``[S, n]`` each."""

    matched: ArrayLike
    shuffled: ArrayLike
    reversed: ArrayLike


def time_order(
    losses: Mapping[str, Losses], groups: Sequence[str], alpha: float = 0.05
) -> TimeOrder:
    """Shares of order of the projectors of a study.

    Args:
        losses: projector → losses of its runs, with the same S and clips for all.
        groups: source video of each clip.
        alpha: level of the tests and intervals.

    Raises:
        StudyError: unequal seeds or clips, losses that are no numbers.
    """
    backwards, other = {}, {}
    for label, own in losses.items():
        matched = np.asarray(own.matched, dtype=float)
        backwards[label] = group_means(np.asarray(own.reversed, dtype=float) - matched, groups)[1]
        other[label] = group_means(np.asarray(own.shuffled, dtype=float) - matched, groups)[1]
    table, shuffled = Scores.of(backwards), Scores.of(other).y
    cost, gap = shuffled.mean(axis=(1, 2)), table.y.mean(axis=(1, 2))
    known = cost > 0
    shares = np.divide(gap, cost, out=np.zeros_like(cost), where=known)
    # The ratio of two means is as uncertain as the mean of "reversed − share · shuffled" over the
    # denominator (Fieller's linearisation, good where the denominator is many errors above 0).
    residual = table.y - shares[:, None, None] * shuffled
    adjusted = holm([_own_bounds(own, alpha).p for own in table.y])
    found = []
    for p, label in enumerate(table.labels):
        if not known[p]:
            found.append(OrderSeen(label, None, None, None, 1.0, "undetermined"))
            continue
        share, bounds = float(shares[p]), _own_bounds(residual[p], alpha / 2)
        low = high = None
        verdict: OrderVerdict = "undetermined"
        if bounds.lower is not None and bounds.upper is not None:
            low, high = share + bounds.lower / cost[p], share + bounds.upper / cost[p]
            if high < BLIND_SHARE:
                verdict = "blind"
            elif adjusted[p] <= alpha:
                verdict = "sees"
        found.append(OrderSeen(label, share, low, high, float(adjusted[p]), verdict))
    scaled = {label: table.y[p] / cost[p] for p, label in enumerate(table.labels) if known[p]}
    return TimeOrder(tuple(found), tuple(pair_tests(scaled, alpha)) if len(scaled) > 1 else ())


def _own_bounds(table: Array, alpha: float) -> Bounds:
    """Test the mean of one projector's ``[S, G]`` by its own runs, one-sided bounds at 1 − alpha.

    The others tell nothing here: a model that cannot see order has no seed noise in what reversing
    costs it, whatever theirs.
    """
    noise = seed_noise(table[None]) if len(table) > 1 else None
    return bounds_of(table.mean(axis=0), noise, 0, alpha, own_runs=True)
