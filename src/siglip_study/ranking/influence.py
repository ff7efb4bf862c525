"""How much a single group of clips carries: every pair again, one group left out at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.ranking.pairs import pair_arrays
from siglip_study.ranking.scores import Scores
from siglip_study.ranking.variance import seed_noise

#: Scores (8 bytes each) of the tables that are tested together, a group missing in each.
_ENTRIES = 2**21


@dataclass(frozen=True)
class PairInfluence:
    """What leaving out one group does to a pair.

    Attributes:
        a: first projector.
        b: second projector.
        change: largest change of the difference a − b, signed.
        change_group: the group whose absence makes it.
        low: smallest difference with one group left out.
        high: largest such difference.
        p_change: largest change of Holm's p, signed; ``None`` with one seed.
        p_group: the group whose absence makes it.
        flipped_by: groups without which the claim is lost, or made, or turned around.
        claimed: whether the pair is called different with all groups.
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


def leave_one_out(
    scores: Mapping[str, ArrayLike], groups: Sequence[str], alpha: float = 0.05
) -> list[PairInfluence]:
    """Test every pair of ``{projector: [S, G]}`` G times, without group g.

    D itself is not measured anew: a caption's margin keeps the other clips that it was compared
    with. Pairs stand as in :func:`siglip_study.ranking.pairs.pair_tests`. With fewer than three
    groups, or one projector, there is nothing to leave out: the list is empty.

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
        found = pair_arrays(y, seed_noise(y) if known else None, table.scale)
        return found.difference, found.p_holm

    difference, p = tests(table.y)
    together = max(1, _ENTRIES // table.y.size)
    without = []
    for start in range(0, n, together):
        left_out = range(n)[start : start + together]
        without.append(tests(np.stack([np.delete(table.y, g, axis=-1) for g in left_out])))
    differences, ps = (np.concatenate([part[i] for part in without]) for i in (0, 1))  # [G, pairs]
    result = []
    names = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    for i, (a, b) in enumerate(names):
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
