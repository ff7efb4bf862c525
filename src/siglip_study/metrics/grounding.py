"""Does a caption fit its own clip better than other clips? From the matrix S of all pairs.

``S[i, j]`` is the score of caption i with clip j, ``[N, N]``, the diagonal being the matched pairs.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from siglip_study.base.errors import StudyError
from siglip_study.metrics.base import PerClip, metric

#: Two clips cannot tell a caption's appeal from a clip's: fewer are no comparison.
LEAST_IN_CATEGORY = 3

#: An SD of cosines below this is rounding of float32: captions that are all the same have it.
SCORE_ROUNDING = 1e-6


def square_matrix(scores: np.ndarray) -> np.ndarray:
    """S as float64.

    Raises:
        StudyError: it is not square, or holds a value that is not finite.
    """
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise StudyError(
            f"score matrix has shape {matrix.shape}; expected as many captions as clips."
        )
    if not np.isfinite(matrix).all():
        raise StudyError("score matrix holds a value that is not finite; expected cosines.")
    return matrix


@metric(bounds=(-2, 2), higher_is_better=True, unit="cosine", chance=0.0, least_clips=2)
def grounding_margin(similarity: np.ndarray, empty: np.ndarray | None = None) -> PerClip:
    r"""Cosine with the own clip above what caption and clip averages explain.

    Grounding margin D of each clip, ``[N]``, in the unit of S.

    The off-diagonal scores are fitted by least squares as mean + effect of the caption + effect of
    the clip (``S_ij ≈ μ + α_i + β_j``); D_i is what the matched pair has above that fit. So neither
    a caption that fits everything nor a clip that everything fits earns anything, and D_i is
    exactly 0 wherever S is additive, as for a caption that is the same everywhere. With r_i, c_i
    the off-diagonal row and column means and g the off-diagonal mean,

    ``D_i = S_ii − g − (N−1)/(N−2) · ((r_i − g) + (c_i − g))``.

    The factor corrects the means for the missing diagonal. Without it (``S_ii − r_i − c_i + g``)
    the mean of D over all clips is the same, but each D_i keeps a share 1/(N−1) of its caption's
    and clip's hubness, which unequal groups do not average away.

    An empty caption has D = 0, what a caption that tells nothing has, and is left out of the fit:
    a generic captioner that falls silent on unpopular clips must gain nothing by it.

    Two clips cannot tell caption from clip effects: both get the mean D. A single non-empty caption
    among others that are empty leaves no other to tell its clip's appeal: 0.

    Raises:
        StudyError: fewer than two clips (there is no other clip to compare with), S not square.
    """
    return _fit(similarity, empty)[0]


def _fit(similarity: np.ndarray, empty: np.ndarray | None) -> tuple[np.ndarray, float]:
    """D ``[N]``, and the SD of the off-diagonal scores about the fit (0 where nothing is left)."""
    matrix = square_matrix(similarity)
    n = len(matrix)
    if n < 2:
        raise StudyError(f"grounding margin of {n} clips is undefined; expected at least two.")
    spoken = np.arange(n) if empty is None else np.flatnonzero(~np.asarray(empty, dtype=bool))
    m = len(spoken)
    margins = np.zeros(n)
    if m < 2:
        return margins, 0.0
    own = np.diagonal(matrix)[spoken]
    if n == 2:
        return np.full(2, own.mean() - (matrix.sum() - own.sum()) / 2), 0.0
    rows = matrix[spoken].sum(axis=1) - own
    columns = matrix[np.ix_(spoken, spoken)].sum(axis=0) - own
    total = rows.sum()
    # The fit of a full table is row mean + column mean - mean. The diagonal x is missing from this
    # one, and is filled with its own fit: x_i = (R_i + x_i)/n + (C_i + x_i)/m - (T + sum x)/(m n).
    known = rows / n + columns / m - total / (m * n)
    filled = known.sum() / (1 - 1 / m)
    fitted = (known - filled / (m * n)) / (1 - 1 / n - 1 / m)
    margins[spoken] = own - fitted
    table = matrix[spoken]
    table[np.arange(m), spoken] = fitted
    table += table.mean() - table.mean(axis=1, keepdims=True) - table.mean(axis=0)
    # Scores off the diagonal, less one effect a row and a column, of which one is redundant.
    freedom = m * (n - 1) - (m + n - 1)
    return margins, math.sqrt(float(np.square(table).sum()) / freedom) if freedom > 0 else 0.0


@metric(bounds=(None, None), higher_is_better=True, unit="SD", chance=0.0, least_clips=2)
def standardised_margin(similarity: np.ndarray, empty: np.ndarray | None = None) -> PerClip:
    r"""Grounding margin in standard deviations of the captioner's scores with other clips.

    M of each clip, ``[N]``: ``M_i = D_i / σ``, D as in :func:`grounding_margin` and σ² the residual
    mean square of the off-diagonal scores about the same fit (two-way layout without its diagonal:
    N² − 3N + 1 degrees of freedom), one σ a captioner. How many SDs the own clip stands above what
    chance pairs do, as d′ of signal detection has it (Green & Swets 1966).

    Style moves D and not M: a caption's vector is a mean over its sentences whose length is not
    restored, so that punctuation, filler and repeated sentences shrink or stretch all its scores
    alike, D and σ by the same factor. Dividing by each caption's own SD would be biased among clips
    of one category; one σ a captioner is not.

    0 for two clips, for an empty caption, and where σ is rounding (captions that are all the same).
    """
    margins, sd = _fit(similarity, empty)
    return _in_units_of(margins, sd)


def _in_units_of(margins: np.ndarray, sd: float) -> np.ndarray:
    return margins / sd if sd > SCORE_ROUNDING else np.where(np.isnan(margins), np.nan, 0.0)


def large_categories(categories: Sequence[str | None]) -> list[str | None]:
    """The category of each clip, ``None`` where it has too few clips to be compared within."""
    sizes = Counter(categories)
    return [c if c is not None and sizes[c] >= LEAST_IN_CATEGORY else None for c in categories]


def by_category(
    function: Callable[[np.ndarray, np.ndarray], PerClip],
    similarity: np.ndarray,
    category: Sequence[str | None],
    empty: np.ndarray | None,
    least: int = 1,
) -> PerClip:
    """A metric of S and ``empty`` within each category of at least ``least`` clips, else NaN."""
    matrix = square_matrix(similarity)
    silent = np.zeros(len(matrix), dtype=bool) if empty is None else np.asarray(empty, dtype=bool)
    values = np.full(len(matrix), np.nan)
    for name in set(category) - {None}:
        members = np.array([i for i, other in enumerate(category) if other == name])
        if len(members) >= least:
            values[members] = function(matrix[np.ix_(members, members)], silent[members])
    return values


@metric(bounds=(-2, 2), higher_is_better=True, unit="cosine", chance=0.0, least_clips=2)
def grounding_margin_within(
    similarity: np.ndarray, category: Sequence[str | None], empty: np.ndarray | None = None
) -> PerClip:
    """Grounding margin against clips of the same category only.

    Is more seen than the category? ``[N]``, NaN for a clip without category or alone in it.
    """
    return by_category(grounding_margin, similarity, category, empty, least=2)


@metric(bounds=(None, None), higher_is_better=True, unit="SD", chance=0.0, least_clips=2)
def standardised_margin_within(
    similarity: np.ndarray, category: Sequence[str | None], empty: np.ndarray | None = None
) -> PerClip:
    """Standardised margin against clips of the same category only.

    ``[N]``, NaN for a clip without category or alone in it. The unit is that of
    :func:`standardised_margin`, the captioner's SD over all clips, so that the two can be compared.
    """
    margins = grounding_margin_within(similarity, category, empty)
    return _in_units_of(margins, _fit(similarity, empty)[1])


@metric(bounds=(0, 1), higher_is_better=True, chance=0.5, least_clips=2)
def auc(similarity: np.ndarray, empty: np.ndarray | None = None) -> PerClip:
    """Share of other clips that the caption fits worse than its own.

    ``[N]``, ties half. The mean is the area under the ROC curve of each caption, averaged. An
    ``empty`` caption has 0.
    """
    return auc_within(similarity, [""] * len(similarity), empty)


@metric(bounds=(0, 1), higher_is_better=True, chance=0.5, least_clips=2)
def auc_within(
    similarity: np.ndarray, category: Sequence[str | None], empty: np.ndarray | None = None
) -> PerClip:
    """The same among clips of the same category.

    ``[N]``, NaN where there is no other.
    """
    matrix = square_matrix(similarity)
    n = len(matrix)
    own = np.diagonal(matrix)[:, None]
    places = {name: place for place, name in enumerate(dict.fromkeys(category))}
    # A clip without category is like none other.
    kind = [i - n if name is None else places[name] for i, name in enumerate(category)]
    alike = np.equal.outer(kind, kind)
    # Each caption ties with itself, which is no win.
    count = alike.sum(axis=1) - 1
    wins = ((own > matrix) & alike).sum(axis=1) + 0.5 * (((own == matrix) & alike).sum(axis=1) - 1)
    values = np.divide(wins, count, out=np.full(n, np.nan), where=count > 0)
    return values if empty is None else np.where(empty & (count > 0), 0.0, values)


@metric(
    bounds=(None, None),
    higher_is_better=True,
    unit="bit",
    # Version 2: the temperature expects one mistake among the references.
    version="2",
    chance=0.0,
    least_clips=2,
)
def bits(similarity: np.ndarray, temperature: float, empty: np.ndarray | None = None) -> PerClip:
    """How much a caption tells of which clip it describes.

    ``[N]`` bits, ``log2(softmax_j(S_ij / temperature)_i · N)``: 0 for a caption that fits all clips
    alike, log2 N at most, negative where it points elsewhere. Temperature from
    :func:`fit_temperature`. Captions marked ``empty`` tell 0 bits.
    """
    matrix = square_matrix(similarity) / temperature
    values = (np.diagonal(matrix) - _log_mean_exp(matrix)) / math.log(2)
    return values if empty is None else np.where(empty, 0.0, values)


def _log_mean_exp(matrix: np.ndarray) -> np.ndarray:
    """Logarithm of each row's mean exponential, ``[N]``."""
    top = matrix.max(axis=1)
    return np.asarray(top + np.log(np.exp(matrix - top[:, None]).mean(axis=1)))


def fit_temperature(scores: np.ndarray) -> float:
    """Temperature at which these (the selection references') scores give the most bits.

    To the N captions one is added that belongs to another clip, in the mean over all such pairs.
    Without it, references that are all told apart (complete separation) would be fitted best by a
    temperature of 0, at which a captioner's every wrong choice costs hundreds of bits; with it, one
    error in N + 1 is expected. Where some references are mistaken anyway it changes little.

    Searched from 1e-4 to 10 in the unit of S; a matrix that tells nothing ends at the upper bound.
    """
    from scipy.optimize import minimize_scalar

    matrix = square_matrix(scores)
    n = len(matrix)
    right = np.trace(matrix)
    wrong = (matrix.sum() - right) / (n * max(1, n - 1))

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        expected = _log_mean_exp(matrix / temperature).sum() * (1 + 1 / n)
        return float(expected - (right + wrong) / temperature)

    best = minimize_scalar(loss, bounds=(math.log(1e-4), math.log(10.0)), method="bounded")
    return math.exp(best.x)


def means_by_group(values: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """Mean of each group, NaN values left out, groups in sorted order: ``[G]``."""
    values = np.asarray(values, dtype=np.float64)
    keep = ~np.isnan(values)
    if groups is None:
        return values[keep]
    index = _group_index(tuple(groups))[keep]
    counts = np.bincount(index)
    some = counts > 0
    return np.bincount(index, values[keep])[some] / counts[some]


@functools.lru_cache(maxsize=4)
def _group_index(groups: tuple[str, ...]) -> np.ndarray:
    """Place of each clip's group in sorted order; cached, since every metric has the same."""
    places = {group: place for place, group in enumerate(sorted(set(groups)))}
    return np.array([places[group] for group in groups], dtype=np.int64)


def mean_interval(
    values: np.ndarray,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    share: bool = False,
) -> tuple[float, float, float]:
    """Mean over groups with its t interval: (mean, low, high); with ``share`` Wilson's.

    Clips cut from one source video are not independent, so they are averaged first and the groups
    are the sample. NaN values are left out. The bounds are NaN with fewer than two groups, and all
    three are NaN where no value is left.
    """
    means = means_by_group(values, groups)
    n = len(means)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = float(means.mean())
    if n < 2:
        return mean, math.nan, math.nan
    variance = float(means.var(ddof=1)) / n
    if share:
        return mean, *proportion_interval(mean, variance, n, n - 1, level)
    # The quantile of scipy.stats, which takes a second to import.
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + level) / 2)) * math.sqrt(variance)
    return mean, mean - half, mean + half


def proportion_interval(
    mean: float, variance: float, n: int, df: float, level: float = 0.95
) -> tuple[float, float]:
    """Wilson's interval of a mean of shares, each in [0, 1], whose variance is known otherwise.

    The score interval (Wilson 1927, JASA 22, 209-212) with the effective sample size
    p(1 − p)/``variance`` in the place of n (Korn & Graubard 1998, Survey Methodology 24, 193-201),
    since clips of a source video and runs of a projector are not independent. Where the sample has
    no variance (all or nothing), ``n`` itself: of 60 clips that are all right the lower bound is
    .94, and not 1. ``df`` are the degrees of freedom of ``variance``.
    """
    # The quantile of scipy.stats, which takes a second to import.
    from scipy.special import stdtrit

    z = float(stdtrit(df, (1 + level) / 2))
    spread = mean * (1 - mean)
    effective = spread / variance if variance > 0 and spread > 0 else float(n)
    centre = (mean + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * math.sqrt(spread / effective + z**2 / (4 * effective**2))
    return max(0.0, centre - half), 1.0 if mean == 1 else min(1.0, centre + half)
