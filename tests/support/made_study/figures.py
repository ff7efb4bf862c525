"""How good each made-up captioner is."""

from __future__ import annotations

from typing import Any

PROJECTORS = (
    "linear",
    "mlp_2l",
    "c_abstractor",
    "query_perceiver",
    "perceiver",
    "query_abstractor",
)
TRUTH = {"shape": 0.8, "colour": 0.7, "place": 0.6, "weather": 0.3, "motion_direction": 0.25}
HUMAN_MARGIN = 0.18
_SKILL = {"linear": 0.10, "mlp_2l": 0.12, "c_abstractor": 0.06, "query_perceiver": 0.004}
# Unit, least, most, higher is better, tokenizer, and the references' value.
_METRICS = {
    "grounding_margin": ("cosine", -2.0, 2.0, True, None, HUMAN_MARGIN),
    "auc": ("probability", 0.0, 1.0, True, None, 0.97),
    "siglip_cosine": ("cosine", -1.0, 1.0, True, None, 0.31),
    "siglip_published": ("probability", 0.0, 1.0, True, None, 0.4),
    "retrieval_r1": ("share", 0.0, 1.0, True, None, 0.72),
    "meteor": ("score", 0.0, 1.0, True, "kiwi content morphemes", 0.6),
    "meteor_gain": ("score", -1.0, 1.0, True, "kiwi content morphemes", 0.42),
    "effective_captions": ("share", 0.0, 1.0, True, None, 0.93),
    "distinct_ratio": ("share", 0.0, 1.0, True, None, 1.0),
    "top_cluster_share": ("share", 0.0, 1.0, False, None, 0.03),
}


def skill_of(label: str) -> float:
    """Mean D of a projector's captions."""
    return _SKILL.get(label, 0.05)


def metric_facts() -> dict[str, dict[str, Any]]:
    """``metrics`` of metrics.json."""
    keys = ("unit", "min", "max", "higher_is_better", "tokenizer")
    return {
        metric: {"version": "1", **dict(zip(keys, facts[:5], strict=True))}
        for metric, facts in _METRICS.items()
    }


def metric_values(skill: float, collapsed: bool, clips: int) -> dict[str, dict[str, Any]]:
    """``values`` of metrics.json: the better a captioner, the nearer to the references."""
    found: dict[str, dict[str, Any]] = {}
    for metric, (*_, reference) in _METRICS.items():
        value = reference * (0.3 + 0.7 * share_of_human(skill))
        if metric == "grounding_margin":
            value = skill
        if metric == "effective_captions":
            value = 1 / clips if collapsed else 0.8
        if metric == "top_cluster_share":
            value = 1.0 if collapsed else 0.05
        found[metric] = {
            "value": value,
            "low": value - 0.012,
            "high": value + 0.012,
            "reference": reference,
            "chance": 1 / clips if metric == "retrieval_r1" else None,
        }
    return found


def truth_values(kappas: dict[str, float], skill: float, clips: int) -> dict[str, Any]:
    """``truth`` of metrics.json, for kappas as good as a human's."""
    share = share_of_human(skill)
    return {
        attribute: {
            "kappa": kappa * share,
            "low": kappa * share - 0.08,
            "high": kappa * share + 0.08,
            "accuracy": 0.5 + kappa * share / 2,
            "majority": 0.4,
            "n": clips,
        }
        for attribute, kappa in kappas.items()
    }


def share_of_human(skill: float) -> float:
    """How near D comes to that of the human captions, at most 1."""
    return min(1.0, skill / HUMAN_MARGIN)
