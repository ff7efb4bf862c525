"""Tests between projectors, the ranks that they allow, and whether a single group decides them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.ranking.outlook import POWER, PairPlan, shrunken
from siglip_study.ranking.scores import Scores, Table, basis_of, study_noise
from siglip_study.ranking.variance import (
    Array,
    Method,
    SeedNoise,
    contrast_variance,
    holm,
    one_sided_p,
    t_quantile,
    two_sided_p,
)


@dataclass(frozen=True)
class PairTest:
    """Difference a − b of two projectors; ``p_holm`` decides.

    Attributes:
        a: first projector.
        b: second projector.
        difference: of their means.
        low: interval at 1 − alpha for this pair alone; with one seed it carries clips only.
        high: its upper bound.
        p: of the t-test; ``None`` with one seed, as what follows.
        p_holm: Holm over all pairs.
        df: degrees of freedom.
        smallest_detectable: true difference found with power .8 at Holm's strictest step.
        significant: whether it is claimed.
        joint_low: interval that holds for all pairs together at 1 − alpha, and excludes 0 exactly
            where the difference is claimed: Bonferroni's, cut at 0 where Holm claims what it alone
            would not.
        joint_high: its upper bound.
        power: probability of claiming a true difference of ``shrunken`` at that step.
        shrunken: of a claimed difference, the true one of which such claims are the mean.
        seed_sd_to_undo: with one seed, the seed SD from which the difference would no longer be
            significant (0: it is not, whatever the seeds).

    With one group only ``difference`` is known.
    """

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    df: float | None
    smallest_detectable: float | None
    significant: bool
    joint_low: float | None = None
    joint_high: float | None = None
    power: float | None = None
    shrunken: float | None = None
    seed_sd_to_undo: float | None = None


@dataclass(frozen=True)
class BaselineTest:
    """Difference of a projector from a baseline that is not trained.

    ``cleared``: the one-sided lower bound of the difference is above 0 after Holm.
    """

    projector: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    df: float | None
    cleared: bool
    basis: str


@dataclass(frozen=True)
class PairArrays:
    """The tests of all pairs (a < b), each ``[..., pairs]``."""

    difference: Array
    variance: Array
    df: Array
    p: Array
    p_holm: Array


def pair_arrays(y: Array, noise: SeedNoise | None, scale: float | None = None) -> PairArrays:
    """Test all pairs of ``y`` ``[..., P, S, G]`` (P, G ≥ 2), in the order of ``combinations``."""
    by_group = y.mean(axis=-2)  # [..., P, G]
    columns = []
    for a, b in combinations(range(y.shape[-3]), 2):
        delta = by_group[..., a, :] - by_group[..., b, :]
        columns.append((delta.mean(axis=-1), *contrast_variance(delta, noise, (a, b))))
    difference, variance, df = (np.stack(parts, axis=-1) for parts in zip(*columns, strict=True))
    size = float(np.abs(y).max(initial=0.0)) if scale is None else scale
    p = two_sided_p(difference, variance, df, size)
    return PairArrays(difference, variance, df, p, holm(p))


def pair_tests(scores: Table, alpha: float = 0.05, method: Method = "floor") -> list[PairTest]:
    """Test every pair of ``{projector: [S, G]}``: t-test, Holm over all pairs, intervals.

    The smallest detectable difference is (t_{1−α/2m} + t_{.8})·√V for m pairs: the true difference
    that would be found with power .8 even at Holm's strictest step.
    """
    table = Scores.of(scores)
    names = list(combinations(table.labels, 2))
    if not names:
        return []
    if table.n_groups < 2:
        means = table.means
        unknown = (None,) * 6
        return [PairTest(a, b, means[a] - means[b], *unknown, significant=False) for a, b in names]
    noise = study_noise(table, method)
    tests = pair_arrays(table.y, noise)
    se = np.sqrt(tests.variance)
    half = t_quantile(1 - alpha / 2, tests.df) * se
    strict = t_quantile(1 - alpha / (2 * len(names)), tests.df)
    detectable = (strict + t_quantile(POWER, tests.df)) * se
    undo = np.sqrt(np.maximum((tests.difference / strict) ** 2 - tests.variance, 0.0) / 2)
    joint_low, joint_high = joint_intervals(tests, alpha)
    result = []
    for i, (a, b) in enumerate(names):
        difference = float(tests.difference[i])
        significant = noise is not None and bool(tests.p_holm[i] <= alpha)
        power = likely = None
        if significant and noise is not None:
            likely = shrunken(difference, float(se[i]), float(strict[i]))
            members = table.labels.index(a), table.labels.index(b)
            delta = table.y[members[0]].mean(axis=0) - table.y[members[1]].mean(axis=0)
            power = PairPlan.of(delta, noise, members, alpha).power(likely)
        known = noise is not None
        result.append(
            PairTest(
                a=a,
                b=b,
                difference=difference,
                low=difference - float(half[i]),
                high=difference + float(half[i]),
                joint_low=float(joint_low[i]) if known else None,
                joint_high=float(joint_high[i]) if known else None,
                p=float(tests.p[i]) if known else None,
                p_holm=float(tests.p_holm[i]) if known else None,
                df=float(tests.df[i]),
                smallest_detectable=float(detectable[i]) if known else None,
                significant=significant,
                power=power,
                shrunken=likely,
                seed_sd_to_undo=None if known else float(undo[i]),
            )
        )
    return result


def joint_intervals(tests: PairArrays, alpha: float) -> tuple[Array, Array]:
    """Bounds of all differences together, ``[..., pairs]`` each.

    Bonferroni's intervals hold jointly, but are wider than Holm's tests: where Holm claims a
    difference that its interval would not, the interval ends at 0 (it is open there).
    """
    m = tests.difference.shape[-1]
    half = t_quantile(1 - alpha / (2 * m), tests.df) * np.sqrt(tests.variance)
    low, high = tests.difference - half, tests.difference + half
    claimed = tests.p_holm <= alpha
    low = np.where(claimed & (tests.difference > 0), np.maximum(low, 0.0), low)
    return low, np.where(claimed & (tests.difference < 0), np.minimum(high, 0.0), high)


def rank_intervals(
    tests: Sequence[PairTest], labels: Collection[str]
) -> dict[str, tuple[int, int]]:
    """Ranks that each of ``labels`` can hold: [1 + significantly better, R − significantly worse].

    R is ``len(labels)``; tests against projectors outside ``labels`` (gated ones) place nobody.
    No two projectors "share" a rank: not being told apart is no transitive relation.
    """
    better = dict.fromkeys(labels, 0)
    worse = dict.fromkeys(labels, 0)
    for test in tests:
        if test.significant and test.a in better and test.b in better:
            winner, loser = (test.a, test.b) if test.difference > 0 else (test.b, test.a)
            better[loser] += 1
            worse[winner] += 1
    return {label: (1 + better[label], len(better) - worse[label]) for label in labels}


def baseline_tests(scores: Table, baseline: ArrayLike, alpha: float = 0.05) -> list[BaselineTest]:
    """Compare each projector ``[S, G]`` with a baseline ``[G]`` on the same groups.

    The baseline (retrieval) is computed, not trained: it has no seed noise of its own. The
    intervals are two-sided at 1 − alpha; ``cleared`` is the one-sided test, Holm over projectors.
    """
    table = Scores.of(scores)
    bar = np.asarray(baseline, dtype=float)
    if bar.shape != (table.n_groups,) or not np.isfinite(bar).all():
        raise StudyError(
            f"retrieval baseline: scores of shape {bar.shape}, finite: "
            f"{bool(np.isfinite(bar).all())}; expected {table.n_groups} finite scores, one a group."
        )
    noise = study_noise(table)
    basis = basis_of(noise)
    deltas = table.y.mean(axis=1) - bar  # [P, G]
    means = deltas.mean(axis=1)
    if table.n_groups < 2:
        return [
            BaselineTest(label, float(mean), None, None, None, None, None, False, basis)
            for label, mean in zip(table.labels, means, strict=True)
        ]
    parts = [contrast_variance(delta, noise, (p,)) for p, delta in enumerate(deltas)]
    variance, df = (np.array([part[i] for part in parts]) for i in (0, 1))
    p_values = one_sided_p(means, variance, df, max(table.scale, float(np.abs(bar).max())))
    adjusted = holm(p_values)
    half = t_quantile(1 - alpha / 2, df) * np.sqrt(variance)
    return [
        BaselineTest(
            projector=label,
            difference=float(means[i]),
            low=float(means[i] - half[i]),
            high=float(means[i] + half[i]),
            p=float(p_values[i]),
            p_holm=float(adjusted[i]),
            df=float(df[i]),
            cleared=bool(adjusted[i] <= alpha),
            basis=basis,
        )
        for i, label in enumerate(table.labels)
    ]


# ---- How much a single run carries: every pair again, one run left out at a time.


@dataclass(frozen=True)
class Run:
    """A run by its projector and its place among that projector's, from 0."""

    projector: str
    place: int


@dataclass(frozen=True)
class RunInfluence:
    """What leaving out one run does to a pair's difference.

    Attributes:
        a: first projector.
        b: second projector.
        change: largest change of the difference a − b, signed.
        run: the one whose absence makes it.
        low: smallest difference with one run left out.
        high: largest such difference.
        turned: whether some run decides which of the two is ahead.
        claimed: whether the pair is called different with all runs.
        lost_without: runs without any one of which that claim is lost.
    """

    a: str
    b: str
    change: float
    run: Run
    low: float
    high: float
    turned: bool
    claimed: bool
    lost_without: tuple[Run, ...]


def leave_one_run_out(scores: Table, alpha: float = 0.05) -> list[RunInfluence]:
    """The difference of every pair of ``{projector: [S, G]}`` without each run of the two.

    The means move, and the claims are read again, Holm over all pairs, with the variances of the
    whole study: with a run less a test loses more by its degrees of freedom than by the run. With
    one seed or one group there is nothing to leave out: the list is empty.
    """
    table = Scores.of(scores)
    n_seeds, labels = table.n_seeds, table.labels
    if n_seeds < 2 or table.n_groups < 2 or len(labels) < 2:
        return []
    tests = pair_arrays(table.y, study_noise(table))
    pairs = np.array(list(combinations(range(len(labels)), 2)))  # [pairs, 2]
    runs = [Run(label, place) for label in labels for place in range(n_seeds)]

    # Differences of all pairs without each run: [runs, pairs].
    means = table.y.mean(axis=-1)  # [P, S]
    left = np.repeat(means.mean(axis=1)[None], len(runs), axis=0)  # [runs, P]
    without = (means.sum(axis=1, keepdims=True) - means) / (n_seeds - 1)
    owner = np.arange(len(runs)) // n_seeds
    left[np.arange(len(runs)), owner] = without.ravel()
    differences = left[:, pairs[:, 0]] - left[:, pairs[:, 1]]
    p = holm(two_sided_p(differences, tests.variance, tests.df, table.scale))
    same_side = np.sign(differences) == np.sign(tests.difference)

    result = []
    for i, (a, b) in enumerate(pairs):
        own = np.flatnonzero((owner == a) | (owner == b))
        moved = differences[own, i]
        most = int(np.abs(moved - tests.difference[i]).argmax())
        claimed = bool(tests.p_holm[i] <= alpha)
        lost = own if claimed else own[:0]
        # A claim may also be lost by Holm's step, where another pair's run was left out; that run
        # says nothing of this pair.
        lost = lost[(p[lost, i] > alpha) | ~same_side[lost, i]]
        result.append(
            RunInfluence(
                a=labels[a],
                b=labels[b],
                change=float(moved[most] - tests.difference[i]),
                run=runs[own[most]],
                low=float(moved.min()),
                high=float(moved.max()),
                turned=bool((~same_side[own, i]).any()),
                claimed=claimed,
                lost_without=tuple(runs[run] for run in lost),
            )
        )
    return result


# ---- How much a single group of clips carries: every pair again, one group left out at a time.

#: Scores (8 bytes each) of the tables that are tested together, a group missing in each.
_ENTRIES = 2**21


@dataclass(frozen=True)
class PairInfluence:
    """What leaving out one group does to a pair.

    ``change`` is the largest change of the difference a − b, signed, and ``change_group`` the group
    whose absence makes it; ``p_change`` and ``p_group`` likewise of Holm's p (``None`` with one
    seed). ``low`` and ``high`` bound the difference with one group left out. ``claimed``: the pair
    is called different with all groups; ``flipped_by``: groups without which that claim is lost, or
    made, or turned around.
    """

    a: str
    b: str
    change: float
    change_group: str
    low: float
    high: float
    p_change: float | None
    p_group: str | None
    flipped_by: tuple[str, ...]
    claimed: bool


def leave_one_out(scores: Table, groups: Sequence[str], alpha: float = 0.05) -> list[PairInfluence]:
    """Test every pair of ``{projector: [S, G]}`` G times, without group g.

    D itself is not measured anew: a caption's margin keeps the other clips that it was compared
    with. Pairs stand as in :func:`pair_tests`. With fewer than three groups, or one projector,
    there is nothing to leave out: the list is empty.

    Raises:
        StudyError: unequal tables, or ``groups`` does not name every column once.
    """
    table = Scores.of(scores)
    if len(groups) != table.n_groups or len(set(groups)) != len(groups):
        raise StudyError(
            f"influence: {len(set(groups))} group names for {table.n_groups} groups; "
            "expected one each."
        )
    n, labels = table.n_groups, table.labels
    if n < 3 or len(labels) < 2:
        return []
    known = table.n_seeds > 1

    def tests(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = pair_arrays(y, study_noise(replace(table, y=y)), table.scale)
        return found.difference, found.p_holm

    difference, p = tests(table.y)
    together = max(1, _ENTRIES // table.y.size)
    without = []
    for start in range(0, n, together):
        left_out = range(n)[start : start + together]
        without.append(tests(np.stack([np.delete(table.y, g, axis=-1) for g in left_out])))
    differences, ps = (np.concatenate([part[i] for part in without]) for i in (0, 1))  # [G, pairs]
    result = []
    for i, (a, b) in enumerate(combinations(labels, 2)):
        moved, moved_p = differences[:, i] - difference[i], ps[:, i] - p[i]
        most, most_p = int(np.abs(moved).argmax()), int(np.abs(moved_p).argmax())
        claimed = known and bool(p[i] <= alpha)
        still = (ps[:, i] <= alpha) & known
        turned = still & (np.sign(differences[:, i]) != np.sign(difference[i]))
        flips = np.flatnonzero((still != claimed) | (turned & claimed))
        result.append(
            PairInfluence(
                a=a,
                b=b,
                change=float(moved[most]),
                change_group=groups[most],
                low=float(differences[:, i].min()),
                high=float(differences[:, i].max()),
                p_change=float(moved_p[most_p]) if known else None,
                p_group=groups[most_p] if known else None,
                flipped_by=tuple(groups[int(g)] for g in flips),
                claimed=claimed,
            )
        )
    return result
