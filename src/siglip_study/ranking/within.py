"""Does the gate ask for more than the category, and what is the margin among its clips?

A captioner that knows a clip's category and no more has D > 0, since its captions fit clips of
other categories worse. Among clips of one category its D is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.ranking.scores import group_means
from siglip_study.ranking.variance import bounds_of

#: Source videos that must have a margin within category. With fewer the demand would rest on a
#: small part of the clips, and projectors would be lost for want of power.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class WithinDemand:
    """Whether *grounded* asks for D within category, and one sentence that says why.

    ``mean``, ``lower_bound`` and ``p`` are the human captions', ``None`` where they have none;
    ``n_groups`` of ``n_total`` source videos have a margin within category.
    """

    demanded: bool
    sentence: str
    mean: float | None
    lower_bound: float | None
    p: float | None
    n_groups: int
    n_total: int


@dataclass(frozen=True)
class WithinSpread:
    """How the human captions' D within category spreads over source videos: what power needs.

    ``correlation`` is that with their D over all clips; ``n_groups`` of the study's ``n_total``
    source videos have both.
    """

    mean: float
    sd: float
    correlation: float
    n_groups: int
    n_total: int


def spread_within(margin: np.ndarray, within: np.ndarray) -> WithinSpread | None:
    """Of D ``[G]`` and D within category ``[G]``, NaN where a video has none; ``None`` of fewer
    than two.
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
    open_door = "a captioner that knows only the category of a clip could pass the gate"
    if not wanted:
        return WithinDemand(
            False, f"gate.within_category is off: {open_door}.", None, None, None, n, total
        )
    if n == 0:
        return WithinDemand(
            False, f"No category has three clips: {open_door}.", None, None, None, n, total
        )
    found = bounds_of(known, None, 0, alpha)
    figures = (found.mean, found.lower, found.p, n, total)
    if n < LEAST_SHARE * total:
        sentence = (
            f"Only {n} of {total} source videos lie in a category of three clips, too few to ask "
            f"for D within category: {open_door}."
        )
        return WithinDemand(False, sentence, *figures)
    bound = "" if found.lower is None else f" (lower bound {found.lower:.4f})"
    if found.p > alpha:
        sentence = (
            f"The human captions' own D within category is {found.mean:.4f}{bound}, not shown to "
            f"be above 0, so nobody is asked for it: {open_door}."
        )
        return WithinDemand(False, sentence, *figures)
    sentence = (
        "Grounded means telling clips of one category apart as well, as the human captions do: "
        f"their D within category is {found.mean:.4f}{bound}."
    )
    return WithinDemand(True, sentence, *figures)
