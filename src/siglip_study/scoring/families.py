"""The metrics family by family; each function fills a ``Collector``, and skips with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from siglip_study.metrics import diversity, grounding, retrieval
from siglip_study.metrics.bertscore import BertScore, rescaled
from siglip_study.metrics.bleu import self_bleu
from siglip_study.metrics.cider import CiderReferences
from siglip_study.metrics.meteor import meteor_mismatched, meteor_own
from siglip_study.metrics.ngrams import Ngrams
from siglip_study.metrics.registry import WITHIN_CATEGORY
from siglip_study.metrics.tokens import Tokens
from siglip_study.scoring.collect import Collector
from siglip_study.scoring.reference_tokens import References

SIGLIP_COLUMNS = ("siglip_sum", "siglip_sigmoid", "siglip_published")

_ONE_CLIP = "there is no other clip to compare with"
_ITSELF = "the captions are the references themselves"


def score_siglip(
    found: Collector,
    scores: np.ndarray | None,
    siglip: Mapping[str, np.ndarray],
    temperature: float | None,
    categories: Sequence[str | None],
    empty: np.ndarray,
) -> None:
    """Cosines, grounding, AUC, bits and retrieval, from the matrix S and the scorer's columns."""
    for name in SIGLIP_COLUMNS:
        if name in siglip:
            found.clips(name, siglip[name])
        else:
            found.skip("no scorer values were given", name)
    pairs = (
        "grounding_margin",
        "auc",
        "bits",
        "retrieval_r1",
        "retrieval_r5",
        "retrieval_mrr",
        *WITHIN_CATEGORY,
    )
    if scores is None:
        found.skip("no scorer values were given", "siglip_cosine", *pairs)
        return
    found.clips("siglip_cosine", np.diagonal(scores))
    if len(scores) < 2:
        found.skip(_ONE_CLIP, *pairs)
        return
    found.clips("grounding_margin", grounding.grounding_margin(scores, empty))
    found.clips("auc", grounding.auc(scores, empty=empty))
    _score_within_category(found, scores, categories, empty)
    if temperature is None:
        found.skip("no temperature was fitted on selection references", "bits")
    else:
        found.clips("bits", grounding.bits(scores, temperature, empty))
    ranks = retrieval.ranks(scores, empty)
    chance = retrieval.chance(len(scores))
    found.clips("retrieval_r1", ranks.recall(1), chance["retrieval_r1"])
    found.clips("retrieval_r5", ranks.recall(5), chance["retrieval_r5"])
    found.clips("retrieval_mrr", ranks.reciprocal_rank(), chance["retrieval_mrr"])
    found.columns["retrieval_rank"] = ranks.mean_rank()


def _score_within_category(
    found: Collector, scores: np.ndarray, categories: Sequence[str | None], empty: np.ndarray
) -> None:
    """The same against clips of the same category: is more seen than the category?"""
    if all(category is None for category in categories):
        found.skip("the clips have no categories", *WITHIN_CATEGORY)
        return
    large = grounding.large_categories(categories)
    if all(category is None for category in large):
        found.skip(f"no category has {grounding.LEAST_IN_CATEGORY} clips", *WITHIN_CATEGORY)
        return
    found.clips("grounding_margin_within", grounding.grounding_margin_within(scores, large, empty))
    found.clips("auc_within", grounding.auc(scores, large, empty))
    found.clips("retrieval_r1_within", *retrieval.recall_within(scores, large, empty))


def score_meteor(
    found: Collector,
    tokens: Tokens,
    references: References,
    others: list[np.ndarray],
    are_references: bool,
) -> None:
    """METEOR on four kinds of tokens, and its gain over other clips' references (``others``)."""
    kinds = {"meteor_all": "all", "meteor_characters": "characters", "meteor_words": "words"}
    n = len(others)
    if are_references:
        found.skip(_ITSELF, "meteor", "meteor_gain", *kinds)
    else:
        for name, kind in {"meteor": "content", **kinds}.items():
            found.clips(name, meteor_own(references.meteor[kind], getattr(tokens, kind)))
    if n < 2:
        found.skip(_ONE_CLIP, "meteor_mismatched", "meteor_gain")
        return
    wanted = references.meteor["content"]
    floor = _per_clip(meteor_mismatched(wanted, tokens.content, others).per_clip)
    found.clips("meteor_mismatched", floor)
    if not are_references:
        found.clips("meteor_gain", found.columns["meteor"] - floor)


def _per_clip(values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return values


def score_cider(
    found: Collector,
    tokens: Tokens,
    references: CiderReferences,
    are_references: bool,
    ngrams: Ngrams,
) -> None:
    """CIDEr on all tokens, and its gain over all other clips' references."""
    if are_references:
        found.skip(_ITSELF, "cider", "cider_gain")
        return
    if references.frequencies.n_clips < 2:
        found.skip("document frequencies need two train clips", "cider", "cider_gain")
        return
    own, others = (_per_clip(result.per_clip) for result in references.scores(tokens.all, ngrams))
    found.clips("cider", own)
    if len(own) < 2:
        found.skip(_ONE_CLIP, "cider_gain")
    else:
        found.clips("cider_gain", own - others)


def score_bert(
    found: Collector,
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    bertscore: BertScore | None,
    baseline: float | None,
    are_references: bool,
) -> dict[str, int]:
    """BERTScore above its baseline; returns how many texts the model had to cut."""
    if are_references:
        found.skip(_ITSELF, "bertscore_f1")
        return {}
    if bertscore is None or baseline is None:
        found.skip("no model is configured (metrics.bertscore)", "bertscore_f1")
        return {}
    result = bertscore.score(captions, references)
    found.clips("bertscore_f1", rescaled(result.f1, baseline))
    return {
        "bertscore_truncated": result.truncated,
        "bertscore_truncated_references": result.truncated_references,
    }


def score_diversity(
    found: Collector,
    captions: Sequence[str],
    ids: Sequence[str],
    tokens: Tokens,
    references: References,
    train: tuple[tuple[str, ...], ...],
    ngrams: Ngrams,
) -> np.ndarray:
    """Clusters, distinctness, self-BLEU, repetition, novelty, length; returns the clusters."""
    cluster = diversity.clusters(captions, ids)
    found.corpus("effective_captions", diversity.effective_captions(cluster))
    found.corpus("top_cluster_share", diversity.top_cluster_share(cluster))
    found.corpus("distinct_ratio", diversity.distinct_ratio(captions))
    found.corpus("distinct_1", diversity.distinct_n(tokens.all, 1, ngrams))
    found.corpus("distinct_2", diversity.distinct_n(tokens.all, 2, ngrams))
    found.corpus("length_ratio", diversity.length_ratio(tokens.all, references.all).corpus)
    found.clips("repetition_4", _per_clip(diversity.repetition_4(tokens.all, ngrams).per_clip))
    known = (text for refs in train for text in refs)
    found.clips("novelty", _per_clip(diversity.novelty(captions, known).per_clip))
    if len(captions) < 2:
        found.skip(_ONE_CLIP, "self_bleu")
    else:
        found.corpus("self_bleu", self_bleu(tokens.all, ngrams).corpus)
    return cluster
