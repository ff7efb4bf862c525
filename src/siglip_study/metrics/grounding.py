"""Does a caption fit its own clip better than other clips? From the matrix S of all pairs.

``S[i, j]`` is the score of caption i with clip j, ``[N, N]``, the diagonal being the matched pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from siglip_study.errors import StudyError


def _square(scores: np.ndarray) -> np.ndarray:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise StudyError(
            f"score matrix has shape {matrix.shape}; expected as many captions as clips."
        )
    if not np.isfinite(matrix).all():
        raise StudyError("score matrix holds a value that is not finite; expected cosines.")
    return matrix


def grounding_margin(scores: np.ndarray) -> np.ndarray:
    r"""Grounding margin D of each clip, ``[N]``, in the unit of S.

    The off-diagonal scores are fitted by least squares as mean + effect of the caption + effect of
    the clip (``S_ij ≈ μ + α_i + β_j``); D_i is what the matched pair has above that fit. So neither
    a caption that fits everything nor a clip that everything fits earns anything, and D_i is
    exactly 0 wherever S is additive, as for a caption that is the same everywhere. With r_i, c_i
    the off-diagonal row and column means and g the off-diagonal mean,

    ``D_i = S_ii − g − (N−1)/(N−2) · ((r_i − g) + (c_i − g))``.

    The factor corrects the means for the missing diagonal: without it (``S_ii − r_i − c_i + g``)
    the mean of D over all clips is the same, but a single D_i keeps a share 1/(N−1) of its
    caption's and clip's hubness. Two clips cannot tell caption from clip effects; both then get
    the mean D.

    Raises:
        StudyError: fewer than two clips (there is no other clip to compare with), S not square.
    """
    matrix = _square(scores)
    n = len(matrix)
    if n < 2:
        raise StudyError(
            f"grounding margin of {n} clips is undefined; expected at least two clips."
        )
    own = np.diagonal(matrix)
    rows = (matrix.sum(axis=1) - own) / (n - 1)
    columns = (matrix.sum(axis=0) - own) / (n - 1)
    grand = rows.mean()
    if n == 2:
        return np.full(2, own.mean() - grand)
    return own - grand - (n - 1) / (n - 2) * (rows + columns - 2 * grand)


def grounding_margin_within(scores: np.ndarray, category: Sequence[str | None]) -> np.ndarray:
    """D against clips of the same category only, ``[N]``: is more seen than the category?

    NaN for a clip without category or alone in it.
    """
    matrix = _square(scores)
    margins = np.full(len(matrix), np.nan)
    for name in sorted({name for name in category if name is not None}):
        members = np.array([i for i, other in enumerate(category) if other == name])
        if len(members) >= 2:
            margins[members] = grounding_margin(matrix[np.ix_(members, members)])
    return margins


def auc(
    scores: np.ndarray,
    category: Sequence[str | None] | None = None,
    empty: np.ndarray | None = None,
) -> np.ndarray:
    """Per caption, the share of other clips that it fits worse than its own, ties half: ``[N]``.

    The mean is the area under the ROC curve of each caption, averaged; chance is 0.5.

    Args:
        scores: S.
        category: if given, only other clips of the same category count; NaN where there is none.
        empty: ``[N]`` bool, captions that score 0 because they say nothing.
    """
    matrix = _square(scores)
    n = len(matrix)
    others = ~np.eye(n, dtype=bool)
    if category is not None:
        names = np.array(
            [name if name is not None else f"\0{i}" for i, name in enumerate(category)]
        )
        others &= names[:, None] == names[None, :]
    own = np.diagonal(matrix)[:, None]
    wins = ((own > matrix) + 0.5 * (own == matrix)) * others
    count = others.sum(axis=1)
    values = np.divide(wins.sum(axis=1), count, out=np.full(n, np.nan), where=count > 0)
    return values if empty is None else np.where(empty & (count > 0), 0.0, values)


def bits(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Per caption, how much it tells of which clip it describes, in bits: ``[N]``.

    ``log2(softmax_j(S_ij / temperature)_i · N)``: 0 for a caption that fits all clips alike, log2 N
    at most, negative where it points elsewhere. Temperature from :func:`fit_temperature`.
    """
    matrix = _square(scores) / temperature
    top = matrix.max(axis=1)
    log_mean = top + np.log(np.exp(matrix - top[:, None]).mean(axis=1))
    return (np.diagonal(matrix) - log_mean) / math.log(2)


def fit_temperature(scores: np.ndarray) -> float:
    """Temperature at which these (the selection references') scores give the most bits.

    Searched from 1e-4 to 10 in the unit of S; a matrix that tells nothing ends at the upper bound.
    """
    from scipy.optimize import minimize_scalar

    matrix = _square(scores)
    best = minimize_scalar(
        lambda log_t: -bits(matrix, math.exp(log_t)).mean(),
        bounds=(math.log(1e-4), math.log(10.0)),
        method="bounded",
    )
    return math.exp(best.x)


def group_means(values: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """Mean of each group, NaN values left out, groups in sorted order: ``[G]``."""
    values = np.asarray(values, dtype=np.float64)
    keep = ~np.isnan(values)
    if groups is None:
        return values[keep]
    _, index = np.unique(np.asarray(groups, dtype=object)[keep].astype(str), return_inverse=True)
    return np.bincount(index, values[keep]) / np.bincount(index)


def mean_interval(
    values: np.ndarray, groups: Sequence[str] | None = None, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean over groups with its t interval: (mean, low, high).

    Clips cut from one source video are not independent, so they are averaged first and the groups
    are the sample. NaN values are left out. The bounds are NaN with fewer than two groups, and all
    three are NaN where no value is left.
    """
    means = group_means(values, groups)
    n = len(means)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = float(means.mean())
    if n < 2:
        return mean, math.nan, math.nan
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, n - 1) * means.std(ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half
