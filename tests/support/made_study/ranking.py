"""A ranking as the pipeline makes it, of figures made up."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from siglip_study.ranking.caveats import Caveat
from siglip_study.ranking.gate import Diversity, GateVerdict, RunGate
from siglip_study.ranking.metric_figures import metric_figures
from siglip_study.ranking.pairs import BaselineTest, PairTest, Run, RunInfluence
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


def verdict(label: str, seeds: int = 2) -> GateVerdict:
    """Grounded, with few captions for one; or collapsed."""
    skill, collapsed = skill_of(label), label == COLLAPSED
    low = collapsed or label == "c_abstractor"
    word = "collapsed" if collapsed else "grounded"
    margin = Bounds(skill, skill - 0.012, skill + 0.012, 0.3 if collapsed else 1e-4)
    return GateVerdict(
        verdict=word,
        margin=margin,
        within=None,
        p_holm=0.3 if collapsed else 1e-4,
        decided_within=False,
        category_only=False,
        ungrounded_ceiling=0.018,
        diversity=Diversity(
            0.04 if low else 0.8, 0.46, 1.0 if low else 0.05, 0.1, low, (low,) * seeds
        ),
        n_seeds=seeds,
        runs=(RunGate(word, margin),) * seeds,
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
                gate=verdict(label, seeds),
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
        claimed = p < 0.05
        test = PairTest(a, b, difference, low, high, p / 3, p, 11.4, 0.031, claimed)
        joint = {"joint_low": low - 0.009, "joint_high": high + 0.009}
        # Small differences were claimed with little power.
        power = {"power": 0.54 if abs(difference) < 0.05 else 0.93, "shrunken": difference / 2}
        pairs.append(replace(test, **joint, **(power if claimed else {})))
    against = []
    for label in labels:
        difference, cleared = skill_of(label) - 0.09, label == "mlp_2l"
        bounds = difference - 0.02, difference + 0.02
        against.append(BaselineTest(label, difference, *bounds, 0.01, 0.04, 11.4, cleared, ""))
    best = tuple(own.projector for own in rows if own.rank_low == 1)
    refused = [Caveat("not_ranked", (label,)) for label in labels if label == COLLAPSED]
    noise = np.random.default_rng(0).normal(0, 0.02, (24, 24))
    hanging = Run("mlp_2l", seeds - 1)
    influences = [
        RunInfluence(
            *(pair.a, pair.b, -0.004, Run(pair.a, 0), pair.difference - 0.004, pair.difference),
            turned=False,
            claimed=pair.significant,
            lost_without=(hanging,) if {"mlp_2l", "c_abstractor"} == {pair.a, pair.b} else (),
        )
        for pair in pairs
        if seeds > 1
    ]
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
        run_influence=tuple(influences),
        metrics=metric_figures(_scores(labels, seeds), [f"v{i // 2}" for i in range(24)]),
        caveats=(Caveat("frame_order"), *refused),
        retrieval=RetrievalBar(0.09, tuple(against)),
        scorer=check_scorer(HUMAN_MARGIN * np.eye(24) + noise, [f"v{i // 2}" for i in range(24)]),
    )


def _scores(labels: list[str], seeds: int) -> dict[str, dict[str, np.ndarray]]:
    """M, and R@1 of which every clip is right: ``[seeds, 24]``."""
    rng = np.random.default_rng(1)
    return {
        label: {
            "standardised_margin": skill_of(label) + rng.normal(0, 0.02, (seeds, 24)),
            "retrieval_r1": np.ones((seeds, 24)),
        }
        for label in labels
    }
