"""A ranking as the pipeline writes it."""

from __future__ import annotations

from typing import Any

from support.made_study.figures import skill_of
from support.made_study.texts import HOSTILE

_REASON = {
    True: "Grounded: D is 0.1200 (one-sided bounds 0.1080 and 0.1320, Holm p 0.0001).",
    False: "Collapsed: effective captions are 0.04 (limit 0.46), the top cluster holds 100% "
    "(limit 10%), and D is 0.0040, not shown to be above 0.",
}


def made_ranking(labels: list[str], seeds: int) -> dict[str, Any]:
    can_rank = seeds >= 2
    ranked = [label for label in labels if label != "query_perceiver"]
    rows = []
    for label in labels:
        skill = skill_of(label)
        grounded = label in ranked
        rows.append(
            {
                "projector": label,
                "mean_margin": skill,
                "low": skill - 0.015,
                "high": skill + 0.015,
                "rank_low": 1 if skill >= 0.1 else 3,
                "rank_high": 2 if skill >= 0.1 else len(ranked),
                "interval_basis": "clips and seeds",
                "gate": "grounded" if grounded else "collapsed",
                "gate_reason": _REASON[grounded],
                "stamps": ["templated"] if label == "c_abstractor" else [],
                "ranked": grounded,
                "numbers": {
                    "lower_bound": skill - 0.012,
                    "effective_captions": 0.8,
                    "reference": 0.93,
                },
                "seed_sd": 0.004,
            }
        )
    pairs = []
    for i, a in enumerate(labels):
        for b in labels[i + 1 :]:
            difference = skill_of(a) - skill_of(b)
            p = 0.0004 if abs(difference) > 0.03 else 0.31
            pairs.append(
                {
                    "a": a,
                    "b": b,
                    "difference": difference,
                    "low": difference - 0.02,
                    "high": difference + 0.02,
                    "p": p / 3,
                    "p_holm": p,
                    "df": 11.4,
                    "smallest_detectable": 0.031,
                    "significant": p < 0.05,
                    "seed_sd_to_undo": None,
                }
            )
    return {
        "alpha": 0.05,
        "seeds": seeds,
        "n_groups": 12,
        "can_rank": can_rank,
        "why_not": None if can_rank else "one run each: the variance of seeds is unknown",
        "verdict": "mlp_2l and linear lead and cannot be told apart; query_perceiver collapsed.",
        "scorer": {
            "mean_margin": 0.18,
            "low": 0.17,
            "high": 0.19,
            "p": 1e-9,
            "auc": 0.97,
            "auc_within_category": 0.9,
            "n_clips": 24,
            "n_groups": 12,
            "can_tell": True,
            "human_scale": True,
            "sentence": "The scorer can tell: D of the human captions is 0.18.",
            "swapped": [
                {
                    "share": s,
                    "n_swapped": 0,
                    "mean": 0.18 * (1 - s),
                    "low": 0.17 * (1 - s),
                    "high": 0.19 * (1 - s),
                }
                for s in (0.0, 0.1, 0.25, 0.5, 1.0)
            ],
        },
        "scorer_can_tell": True,
        "projectors": rows,
        "pairs": pairs,
        "retrieval": {
            "mean_margin": 0.09,
            "cleared_by": ["mlp_2l"],
            "comparisons": [
                {
                    "projector": label,
                    "difference": skill_of(label) - 0.09,
                    "low": skill_of(label) - 0.11,
                    "high": skill_of(label) - 0.07,
                    "p_holm": 0.04,
                }
                for label in labels
            ],
        },
        "caveats": ["SigLIP does not see the order of frames.", f"Only two seeds {HOSTILE}."],
    }
