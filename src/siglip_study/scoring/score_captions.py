"""Every metric of one cell's captions: whole-split values with intervals, and one row a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.metrics import diversity
from siglip_study.metrics.bertscore import BertScore
from siglip_study.metrics.ids import check_unique_ids
from siglip_study.metrics.ngrams import Ngrams
from siglip_study.metrics.registry import METRICS, metric_metadata
from siglip_study.metrics.siglip import EMPTY_COSINE
from siglip_study.metrics.tokens import Tokens, normalise, tokenizer_for
from siglip_study.scoring import families
from siglip_study.scoring.collect import Collector, Scores
from siglip_study.scoring.reference_tokens import (
    cached_others,
    cider_references,
    frozen,
    reference_tokens,
)

#: Per-clip metrics, which become columns of ``clips.parquet``: figures over both halves of a
#: held-out split are made from these.
CLIP_METRICS = (
    "siglip_cosine",
    "siglip_sum",
    "siglip_sigmoid",
    "siglip_published",
    "grounding_margin",
    "grounding_margin_within",
    "auc",
    "auc_within",
    "bits",
    "retrieval_r1",
    "retrieval_r1_within",
    "retrieval_r5",
    "retrieval_mrr",
    "retrieval_rank",
    "meteor",
    "meteor_all",
    "meteor_characters",
    "meteor_words",
    "meteor_mismatched",
    "meteor_gain",
    "cider",
    "cider_gain",
    "bertscore_f1",
    "repetition_4",
    "novelty",
)


def score_captions(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    ids: Sequence[str],
    *,
    language: str,
    tokens: Tokens | None = None,
    train_references: Sequence[Sequence[str]],
    groups: Sequence[str] | None = None,
    categories: Sequence[str | None] | None = None,
    matrix: np.ndarray | None = None,
    siglip: Mapping[str, np.ndarray] | None = None,
    temperature: float | None = None,
    caption_vectors: np.ndarray | None = None,
    vector_centre: np.ndarray | None = None,
    bertscore: BertScore | None = None,
    bertscore_baseline: float | None = None,
    truncated: Sequence[bool] | None = None,
    are_references: bool = False,
    reference_values: Mapping[str, Mapping[str, Any]] | None = None,
) -> Scores:
    """Score the captions of one cell on one split.

    The value of a metric that exists per clip is the mean over groups of the groups' means, with
    its 95 % t interval over groups; other metrics have no interval. What cannot be computed is
    named in ``not_computed`` with the reason. Everything depends on ids, not on the clips' order.

    Args:
        captions: N captions; an empty one scores the metric's minimum, and 0 in a contrast with
            other clips (D, gains, bits), where a caption that tells nothing has 0.
        references: N lists of human captions.
        ids: N unique clip ids.
        language: ``"ko"``, ``"en"`` or ``"other"``; chooses the tokenizer.
        tokens: the captions' tokens, if they have been split already.
        train_references: references of each train clip (CIDEr's frequencies, novelty).
        groups: N source videos; the ids if absent.
        categories: N categories or None.
        matrix: S from ``siglip.score_matrix``, ``[N captions, N clips]``.
        siglip: per-clip ``siglip_sum``, ``siglip_sigmoid``, ``siglip_published``, each ``[N]``.
        temperature: from ``grounding.fit_temperature`` on the selection references.
        caption_vectors: ``[N, E]`` from ``siglip.caption_vectors``.
        vector_centre: ``[E]``, mean of the references' caption vectors.
        bertscore: a loaded model.
        bertscore_baseline: ``BertScore.baseline`` of the train references.
        truncated: N flags, true where the caption ran into the token budget.
        are_references: the captions are taken from ``references`` themselves.
        reference_values: ``Scores.values`` of the references, put beside each value.

    Raises:
        StudyError: inputs differ in length, an id repeats, or there is no caption.
    """
    n = len(ids)
    if n == 0:
        raise StudyError("no caption to score; expected at least one clip in the split.")
    check_unique_ids(ids, "the captions")
    unknown = set(siglip or {}) - set(families.SIGLIP_COLUMNS)
    if unknown:
        known = ", ".join(families.SIGLIP_COLUMNS)
        raise StudyError(f"siglip has the columns {sorted(unknown)}; expected some of {known}.")
    lengths = {
        "captions": captions,
        "references": references,
        "groups": groups,
        "categories": categories,
        "truncated": truncated,
        "matrix": matrix,
        "caption_vectors": caption_vectors,
        **(siglip or {}),
    }
    for what, values in lengths.items():
        if values is not None and len(values) != n:
            raise StudyError(
                f"{what} has {len(values)} entries for {n} clip ids; expected as many."
            )
    groups = list(groups) if groups is not None else list(ids)
    categories = list(categories) if categories is not None else [None] * n
    empty = np.array([normalise(caption) == "" for caption in captions])
    if matrix is not None:
        # Whatever a text tower makes of white space, a caption that says nothing fits nothing.
        matrix = np.where(empty[:, None], EMPTY_COSINE, matrix)
    found = Collector(groups, reference_values or {})

    families.score_siglip(found, matrix, siglip or {}, temperature, categories, empty)
    tokens = tokens or tokenizer_for(language)(captions)
    wanted = reference_tokens(frozen(references), language)
    train = frozen(train_references)
    others = cached_others(tuple(ids), tuple(categories))
    prepared = cider_references(frozen(references), train, language)
    families.score_meteor(found, tokens, wanted, others, are_references)
    ngrams = Ngrams.of(tokens.all)
    families.score_cider(found, tokens, prepared, are_references, ngrams)
    notes = families.score_bert(
        found, captions, references, bertscore, bertscore_baseline, are_references
    )
    cluster = families.score_diversity(found, captions, ids, tokens, wanted, train, ngrams)
    if caption_vectors is None or vector_centre is None:
        found.skip("no caption embeddings were given", "vendi")
    else:
        found.corpus("vendi", diversity.vendi(caption_vectors, vector_centre))
    if truncated is not None:
        found.corpus("truncated_share", float(np.mean(np.asarray(truncated, dtype=bool))))
    else:
        found.skip("the captions were not generated under a token budget", "truncated_share")

    if unlisted := found.columns.keys() - set(CLIP_METRICS):
        raise ValueError(
            f"values per clip of {', '.join(sorted(unlisted))}; expected in CLIP_METRICS"
        )
    missing = np.full(n, np.nan)
    clips = pl.DataFrame(
        {
            "id": list(ids),
            "group": groups,
            "category": pl.Series(categories, dtype=pl.String),
            "caption": list(captions),
            "cluster": cluster,
            **{name: found.columns.get(name, missing) for name in CLIP_METRICS},
        }
    ).with_columns(pl.col(CLIP_METRICS).fill_nan(None))
    ordered = {name: found.values[name] for name in METRICS if name in found.values}
    return Scores(
        ordered, clips, metric_metadata(ordered, language), found.why, int(empty.sum()), notes
    )
