"""A ranking as the pipeline makes it, of figures made up."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from siglip_study.ranking.caveats import Caveat
from siglip_study.ranking.gate import Diversity, GateVerdict
from siglip_study.ranking.pairs import BaselineTest, PairTest
from siglip_study.ranking.procedure import (
    Answer,
    RankedProjector,
    Ranking,
    Refusal,
    RetrievalBar,
)
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.variance import Bounds
from support.made_study.captioner import HUMAN_MARGIN, skill_of

#: The projector whose captions are all the same.
COLLAPSED = "query_perceiver"


def verdict(label: str) -> GateVerdict:
    """Grounded, with few captions for one; or collapsed."""
    skill, collapsed = skill_of(label), label == COLLAPSED
    low = collapsed or label == "c_abstractor"
    return GateVerdict(
        verdict="collapsed" if collapsed else "grounded",
        margin=Bounds(skill, skill - 0.012, skill + 0.012, 0.3 if collapsed else 1e-4),
        within=None,
        p_holm=0.3 if collapsed else 1e-4,
        decided_within=False,
        category_only=False,
        ungrounded_ceiling=0.018,
        diversity=Diversity(0.04 if low else 0.8, 0.46, 1.0 if low else 0.05, 0.1, low, (low, low)),
        n_seeds=2,
    )


def made_ranking(labels: list[str], seeds: int) -> Ranking:
    """``mlp_2l`` and ``linear`` cannot be told apart, the rest are behind; none with one seed."""
    can_rank = seeds >= 2
    ranked = [label for label in labels if label != COLLAPSED] if can_rank else []
    rows = []
    for label in labels:
        skill = skill_of(label)
        ranks = (1, 2) if skill >= 0.1 else (3, len(ranked))
        rank_low, rank_high = ranks if label in ranked else (None, None)
        rows.append(
            RankedProjector(
                projector=label,
                mean_margin=skill,
                low=skill - 0.015,
                high=skill + 0.015,
                interval_basis="clips and seeds",
                seed_sd=0.004,
                gate=verdict(label),
                rank_low=rank_low,
                rank_high=rank_high,
            )
        )
    rows.sort(key=lambda own: (not own.ranked, -own.mean_margin))
    pairs = []
    for a, b in combinations(labels, 2):
        difference = skill_of(a) - skill_of(b)
        p = 0.0004 if abs(difference) > 0.03 else 0.31
        low, high = difference - 0.02, difference + 0.02
        pairs.append(PairTest(a, b, difference, low, high, p / 3, p, 11.4, 0.031, p < 0.05))
    against = []
    for label in labels:
        difference, cleared = skill_of(label) - 0.09, label == "mlp_2l"
        bounds = difference - 0.02, difference + 0.02
        against.append(BaselineTest(label, difference, *bounds, 0.01, 0.04, 11.4, cleared, ""))
    best = tuple(own.projector for own in rows if own.rank_low == 1)
    refused = [Caveat("not_ranked", (label,)) for label in labels if label == COLLAPSED]
    noise = np.random.default_rng(0).normal(0, 0.02, (24, 24))
    return Ranking(
        alpha=0.05,
        n_seeds=seeds,
        n_groups=12,
        n_clips=24,
        answer=Answer("no_first", best)
        if can_rank
        else Answer("refused", refusal=Refusal("one_seed")),
        projectors=tuple(rows),
        pairs=tuple(pairs),
        influence=(),
        caveats=(Caveat("frame_order"), *refused),
        retrieval=RetrievalBar(0.09, tuple(against)),
        scorer=check_scorer(HUMAN_MARGIN * np.eye(24) + noise, [f"v{i // 2}" for i in range(24)]),
    )
