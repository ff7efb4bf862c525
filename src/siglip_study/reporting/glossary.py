"""What every figure of the page means, in one sentence each."""

from __future__ import annotations

from typing import Any

from siglip_study.reporting.results import Cell

#: Used where a metric's own information carries no description.
DEFINITIONS: dict[str, str] = {
    "grounding_margin": "D: the caption's SigLIP similarity to its own clip, against all other clips and captions (row mean and column mean removed). 0 for a caption that is the same everywhere.",
    "grounding_auc": "Chance that a caption fits its own clip better than another, random clip; 0.5 is guessing.",
    "grounding_bits": "Information a caption gives about which clip it belongs to, in bits.",
    "grounding_margin_category": "D among clips of the same category only: does it see more than the category?",
    "siglip_cosine": "Cosine of the caption's SigLIP embedding with the mean of the clip's frame embeddings. Blind to the order of frames.",
    "siglip_sum": "The same, summed over sentence chunks, so that brevity does not win.",
    "siglip_sigmoid": "Mean sigmoid probability of SigLIP: an audit column.",
    "siglip_published": "SigLIP by the recipe of the published study: an audit column, not comparable with the cosine.",
    "retrieval_r1": "Share of captions whose own clip is the nearest of all clips; ties share the credit.",
    "retrieval_r5": "Share of captions whose own clip is among the five nearest.",
    "retrieval_mrr": "Mean of 1 / rank of the own clip.",
    "meteor": "METEOR against the own reference. Says nothing without its mismatched value.",
    "meteor_mismatched": "METEOR against other clips' references: what the language alone earns.",
    "meteor_gain": "METEOR with the own reference minus the mean with other clips' references.",
    "cider_gain": "CIDEr with the own reference minus the mean with other clips' references.",
    "bertscore_f1": "BERTScore F1, rescaled so that 0 is a mismatched reference.",
    "effective_captions": "exp(entropy of near-duplicate clusters) / clips: 1 if every caption differs, near 0 if all are one.",
    "distinct_ratio": "Distinct strings / captions, as published: blind to captions that differ in one word.",
    "top_cluster_share": "Share of captions in the largest near-duplicate cluster.",
    "self_bleu": "BLEU of each caption against the others; high means alike.",
    "distinct_1": "Distinct words / words.",
    "distinct_2": "Distinct word pairs / word pairs.",
    "vendi": "Effective number of captions in embedding space (centred).",
    "novelty": "Share of captions that do not occur in the training captions.",
    "repetition_4": "Share of 4-grams that repeat within a caption.",
    "truncated_share": "Share of captions cut off by the token budget.",
    "length_ratio": "Caption length over reference length.",
}


def glossary_rows(cells: list[Cell]) -> list[dict[str, Any]]:
    """Every metric that any cell carries, with its definition, range, direction and tokenizer."""
    infos: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for cell in cells:
        for name, info in cell.metrics["metrics"].items():
            infos.setdefault(name, info)
        for name, why in (cell.metrics.get("not_computed") or {}).items():
            missing.setdefault(name, why)
    order = {name: place for place, name in enumerate(DEFINITIONS)}
    rows = []
    for name in sorted({*infos, *missing}, key=lambda n: (order.get(n, len(order)), n)):
        info = infos.get(name, {})
        rows.append(
            {
                "name": name,
                "definition": info.get("description") or DEFINITIONS.get(name, ""),
                "direction": direction(info.get("higher_is_better")),
                "range": f"{_bound(info.get('min'), '−∞')} to {_bound(info.get('max'), '∞')}",
                "unit": info.get("unit") or "–",
                "tokenizer": info.get("tokenizer") or "–",
                "version": info.get("version") or "–",
                "not_computed": missing.get(name) if name not in infos else None,
            }
        )
    return rows


def direction(higher_is_better: bool | None) -> str:
    """The direction of a metric in words."""
    if higher_is_better is None:
        return "neither"
    return "higher is better" if higher_is_better else "lower is better"


def _bound(value: float | None, unbounded: str) -> str:
    return unbounded if value is None else f"{value:g}".replace("-", "−")
