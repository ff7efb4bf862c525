"""Every metric by its exact name, with range and direction: they stand here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.metrics.base import MetricInfo
from siglip_study.metrics.tokens import tokenizer_for

#: Figures of a clip against those of its category: of clips in a category of three at least.
WITHIN_CATEGORY = ("grounding_margin_within", "auc_within", "retrieval_r1_within")


def _info(
    name: str,
    low: float | None,
    high: float | None,
    better: bool | None,
    tokenizer: str | None,
    description: str,
    *,
    unit: str = "1",
    version: str | None = None,
    chance: float | None = None,
) -> MetricInfo:
    # Version 2 of what reads tokens: Korean sentences are analysed one by one, so that a sentence
    # has the same morphemes wherever it stands; before, some changed with the text around them.
    version = version or ("2" if tokenizer in ("content", "all") else "1")
    return MetricInfo(name, version, unit, low, high, better, tokenizer, description, chance)


_ALL = (
    # Caption and clip, by the scorer.
    _info(
        "siglip_cosine",
        -1,
        1,
        True,
        "model",
        "Cosine of the caption's chunks with the mean of the clip's frames.",
        unit="cosine",
    ),
    _info(
        "siglip_sum",
        None,
        None,
        True,
        "model",
        "Sum of the chunks' cosines with the clip: what brevity gives up.",
        unit="cosine",
    ),
    _info(
        "siglip_sigmoid",
        0,
        1,
        True,
        "model",
        "The scorer's probability that the pair belongs together (audit).",
    ),
    _info(
        "siglip_published",
        0,
        1,
        True,
        "model",
        "The published study's score, a mean of sigmoids (audit).",
    ),
    _info(
        "grounding_margin",
        -2,
        2,
        True,
        None,
        "Cosine with the own clip above what caption and clip averages explain.",
        unit="cosine",
        chance=0.0,
    ),
    _info(
        "grounding_margin_within",
        -2,
        2,
        True,
        None,
        "Grounding margin against clips of the same category only.",
        unit="cosine",
        chance=0.0,
    ),
    _info(
        "auc",
        0,
        1,
        True,
        None,
        "Share of other clips that the caption fits worse than its own.",
        chance=0.5,
    ),
    _info("auc_within", 0, 1, True, None, "The same among clips of the same category.", chance=0.5),
    _info(
        "bits",
        None,
        None,
        True,
        None,
        "How much a caption tells of which clip it describes.",
        unit="bit",
        # Version 2: the temperature expects one mistake among the references.
        version="2",
        chance=0.0,
    ),
    _info(
        "retrieval_r1",
        0,
        1,
        True,
        None,
        "Share of captions whose own clip comes first; ties share their credit.",
    ),
    _info(
        "retrieval_r1_within",
        0,
        1,
        True,
        None,
        "Share of captions whose own clip comes first among those of its category.",
    ),
    _info(
        "retrieval_r5",
        0,
        1,
        True,
        None,
        "Share of captions whose own clip is among the first five.",
    ),
    _info("retrieval_mrr", 0, 1, True, None, "Mean of 1 / rank of the own clip."),
    # Caption and reference.
    _info(
        "meteor",
        0,
        1,
        True,
        "content",
        "METEOR on content tokens (α .9, β 3, γ .5; exact matches).",
    ),
    _info(
        "meteor_all", 0, 1, True, "all", "METEOR on all tokens; Korean particles give it a floor."
    ),
    _info("meteor_characters", 0, 1, True, "characters", "METEOR on characters."),
    _info(
        "meteor_words",
        0,
        1,
        True,
        "words",
        "METEOR on what stands between white space, as published.",
    ),
    _info("meteor_mismatched", 0, 1, None, "content", "METEOR against other clips' references."),
    _info(
        "meteor_gain",
        -1,
        1,
        True,
        "content",
        "METEOR with the own reference minus METEOR with others'.",
        chance=0.0,
    ),
    _info("cider", 0, 10, True, "all", "CIDEr with train document frequencies, no length factor."),
    _info(
        "cider_gain",
        -10,
        10,
        True,
        "all",
        "CIDEr with the own reference minus CIDEr with others'.",
        chance=0.0,
    ),
    _info(
        "bertscore_f1",
        None,
        1,
        True,
        "model",
        "BERTScore (F − b) / (1 − b), b of mismatched train references.",
        chance=0.0,
    ),
    # Captions among themselves.
    _info(
        "effective_captions",
        0,
        1,
        True,
        "characters",
        "exp(entropy of near-duplicate clusters) / captions.",
    ),
    _info(
        "top_cluster_share",
        0,
        1,
        False,
        "characters",
        "Share of the captions in the largest near-duplicate cluster.",
    ),
    _info("distinct_ratio", 0, 1, True, None, "Distinct strings / captions, as published."),
    _info("distinct_1", 0, 1, True, "all", "Distinct tokens / tokens over all captions."),
    _info("distinct_2", 0, 1, True, "all", "Distinct token pairs / token pairs over all captions."),
    _info("self_bleu", 0, 1, False, "all", "BLEU-4 of each caption with the others as references."),
    _info(
        "vendi",
        1,
        None,
        True,
        "model",
        "Vendi score of caption embeddings around the references' centre; at most their number.",
        unit="captions",
    ),
    _info(
        "novelty",
        0,
        1,
        None,
        None,
        "Share of captions that are not a train reference word for word.",
    ),
    _info(
        "repetition_4",
        0,
        1,
        False,
        "all",
        "Share of a caption's 4-grams that repeat an earlier one.",
    ),
    _info(
        "length_ratio", 0, None, None, "all", "Tokens of the captions / tokens of the references."
    ),
    _info(
        "truncated_share", 0, 1, False, "model", "Share of captions that ran into the token budget."
    ),
)

METRICS: dict[str, MetricInfo] = {info.name: info for info in _ALL}


def metric_info(name: str) -> MetricInfo:
    """The metric of exactly this name.

    Raises:
        StudyError: there is none.
    """
    if name not in METRICS:
        raise StudyError(f"no metric is named {name!r}; known are {', '.join(METRICS)}.")
    return METRICS[name]


def metric_metadata(names: Iterable[str], language: str) -> dict[str, dict[str, Any]]:
    """The ``"metrics"`` part of ``metrics/1``: version, unit, range, direction, tokenizer."""
    tokenizers = {**tokenizer_for(language).names, "model": "the model's own"}
    return {
        name: info.as_json(tokenizers[info.tokenizer] if info.tokenizer else None)
        for name in names
        for info in [metric_info(name)]
    }
