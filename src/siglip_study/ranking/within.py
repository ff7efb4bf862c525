"""Does the gate ask for more than the category, and what is the margin among its clips?

A captioner that knows a clip's category and no more has D > 0, since its captions fit clips of
other categories worse. Among clips of one category its D is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.ranking.scores import group_means
from siglip_study.ranking.variance import bounds_of

#: Source videos that must have a margin within category. With fewer the demand would rest on a
#: small part of the clips, and projectors would be lost for want of power.
LEAST_SHARE = 0.5


#: Why D within category is asked for or not: the config has it off, no category has three clips,
#: too few source videos lie in one, the human captions' own is not shown to be above 0.
DemandReason = Literal["asked", "off", "no_category", "few_videos", "not_shown"]


@dataclass(frozen=True)
class WithinDemand:
    """Whether *grounded* asks for D within category, and why.

    ``mean``, ``lower_bound`` and ``p`` are the human captions', ``None`` where they have none;
    ``n_groups`` of ``n_total`` source videos have a margin within category.
    """

    reason: DemandReason
    mean: float | None
    lower_bound: float | None
    p: float | None
    n_groups: int
    n_total: int

    @property
    def demanded(self) -> bool:
        """Whether it is asked for."""
        return self.reason == "asked"


@dataclass(frozen=True)
class WithinSpread:
    """How the human captions' margin within category spreads over source videos.

    ``correlation`` is that with their margin over all clips; ``n_groups`` of the study's
    ``n_total`` source videos have both.
    """

    mean: float
    sd: float
    correlation: float
    n_groups: int
    n_total: int


@dataclass(frozen=True)
class MarginSpread:
    """How the human captions' M spreads over source videos: what power needs before training.

    ``sd`` is over source videos, ``within`` that of M within category, if any clip has one.
    """

    mean: float
    sd: float
    within: WithinSpread | None


def spread_within(margin: np.ndarray, within: np.ndarray) -> WithinSpread | None:
    """Of margins ``[G]`` and margins within category ``[G]``, NaN where a video has none.

    ``None`` of fewer than two.
    """
    known = np.isfinite(within)
    own = within[known]
    if len(own) < 2:
        return None
    spreads = margin[known].std() > 0 and own.std() > 0
    correlation = float(np.corrcoef(margin[known], own)[0, 1]) if spreads else 0.0
    return WithinSpread(
        float(own.mean()), float(own.std(ddof=1)), correlation, len(own), len(margin)
    )


def known_group_means(values: ArrayLike, groups: Sequence[str]) -> np.ndarray:
    """Mean of each source video over the clips that have a value: ``[..., n]`` → ``[..., G]``.

    Groups in sorted order, as everywhere; NaN where no clip of the video has a value.
    """
    scores = np.asarray(values, dtype=float)
    known = np.isfinite(scores)
    total = group_means(np.where(known, scores, 0.0), groups)[1]
    share = group_means(known.astype(float), groups)[1]
    return np.divide(total, share, out=np.full(total.shape, np.nan), where=share > 0)


def within_demand(references: ArrayLike | None, alpha: float, wanted: bool = True) -> WithinDemand:
    """Ask for D within category only where the human captions themselves pass.

    Args:
        references: D within category of the human captions, one a source video, ``[G]``; NaN where
            a video has none; ``None`` where it is not known of any.
        alpha: level of the one-sided test, the same that the projectors face.
        wanted: the config's ``gate.within_category``.
    """
    values = np.atleast_1d(np.asarray([] if references is None else references, dtype=float))
    known = values[np.isfinite(values)]
    n, total = len(known), len(values)
    if not wanted or n == 0:
        return WithinDemand("no_category" if wanted else "off", None, None, None, n, total)
    found = bounds_of(known, None, 0, alpha)
    reason: DemandReason = "asked"
    if n < LEAST_SHARE * total:
        reason = "few_videos"
    elif found.p > alpha:
        reason = "not_shown"
    return WithinDemand(reason, found.mean, found.lower, found.p, n, total)
