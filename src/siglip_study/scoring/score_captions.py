"""Every metric of one captioner's captions: values with intervals, and one row a clip."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.metrics.base import METRICS, Metric, Undefined, frozen, parameters
from siglip_study.metrics.diversity import clusters
from siglip_study.metrics.grounding import LEAST_IN_CATEGORY, large_categories
from siglip_study.metrics.ids import check_unique_ids
from siglip_study.metrics.meteor import other_clips
from siglip_study.metrics.retrieval import ranks
from siglip_study.metrics.siglip import EMPTY_COSINE
from siglip_study.metrics.tokens import Lists, Tokens, normalise, tokenize, tokenizer_names
from siglip_study.scoring.score_files import mean_with_bounds

if TYPE_CHECKING:
    from siglip_study.metrics.bertscore import BertScore

_NO_SCORER = "no scorer values were given"
_NO_MODEL = "no model is configured (metrics.bertscore)"
_NO_VECTORS = "no caption embeddings were given"
#: Why a metric has no value where what it asks for is absent.
_ABSENT = {
    "similarity": _NO_SCORER,
    "temperature": "no temperature was fitted on selection references",
    "vectors": _NO_VECTORS,
    "centre": _NO_VECTORS,
    "bertscore": _NO_MODEL,
    "baseline": _NO_MODEL,
    "truncated": "the captions were not generated under a token budget",
}


@dataclass(frozen=True)
class CaptionInputs:
    """The data of ``metrics.base.INPUTS``, of N captions; None where there is none.

    The attributes are the arguments of :func:`score_captions`.
    """

    tokens: Tokens
    reference_texts: tuple[tuple[str, ...], ...]
    train_texts: tuple[tuple[str, ...], ...]
    ids: Sequence[str]
    categories: Sequence[str | None]
    matrix: np.ndarray | None
    temperature: float | None
    vectors: np.ndarray | None
    centre: np.ndarray | None
    bertscore: BertScore | None
    baseline: float | None
    truncated: Sequence[bool] | None

    def of(self, metric: Metric, function: Callable[..., Any]) -> dict[str, Any]:
        """Arguments for a function of a metric, in the metric's kind of tokens.

        Raises:
            Undefined: something that it asks for is absent.
        """
        kind = None if metric.tokens == "model" else metric.tokens
        found = {}
        for name in parameters(function):
            if name == "captions":
                found[name] = self.tokens.texts if kind is None else getattr(self.tokens, kind)
            elif name in ("references", "train"):
                texts = self.reference_texts if name == "references" else self.train_texts
                found[name] = texts if kind is None else self._tokens_of(texts, kind)
            else:
                found[name] = getattr(self, name)
            if found[name] is None:
                raise Undefined(_ABSENT[name])
        return found

    def _tokens_of(self, texts: tuple[tuple[str, ...], ...], kind: str) -> tuple[Lists, ...]:
        return _reference_tokens(texts, self.tokens.language, kind)

    @functools.cached_property
    def empty(self) -> np.ndarray:
        """``[N]`` captions that say nothing."""
        return np.array([normalise(caption) == "" for caption in self.tokens.texts])

    @functools.cached_property
    def similarity(self) -> np.ndarray | None:
        """S; whatever a text tower makes of white space, a caption that says nothing fits none."""
        if self.matrix is None:
            return None
        return np.where(self.empty[:, None], EMPTY_COSINE, self.matrix)

    @functools.cached_property
    def cluster(self) -> np.ndarray:
        """``[N]`` clusters of near-duplicates."""
        return clusters(self.tokens.texts, self.ids)

    @functools.cached_property
    def others(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the clips that each caption is compared with."""
        return other_clips(self.ids, self.categories)

    @functools.cached_property
    def category(self) -> list[str | None]:
        """Categories that have clips enough to be compared within.

        Raises:
            Undefined: there is none.
        """
        if all(category is None for category in self.categories):
            raise Undefined("the clips have no categories")
        large = large_categories(self.categories)
        if all(category is None for category in large):
            raise Undefined(f"no category has {LEAST_IN_CATEGORY} clips")
        return large


# Every captioner is held against the same references: their tokens are made once.
@functools.lru_cache(maxsize=4)
def _split(texts: tuple[tuple[str, ...], ...], language: str) -> Tokens:
    return tokenize([text for references in texts for text in references], language)


@functools.lru_cache(maxsize=16)
def _reference_tokens(
    texts: tuple[tuple[str, ...], ...], language: str, kind: str
) -> tuple[Lists, ...]:
    flat = iter(getattr(_split(texts, language), kind))
    return tuple(tuple(next(flat) for _ in references) for references in texts)


@dataclass(frozen=True)
class CaptionScores:
    """What ``score_captions`` found; every metric is in ``values`` or in ``not_computed``."""

    # ``{metric: {"value", "low", "high", "reference", "chance"}}`` of ``metrics/1``
    values: dict[str, dict[str, float | None]]
    # columns id, group, category, caption, cluster, retrieval_rank and every metric that has
    # a value a clip
    clips: pl.DataFrame
    metrics: dict[str, dict[str, Any]]  # metadata of each metric in ``values``
    not_computed: dict[str, str]  # why a metric has no value
    n_empty: int  # number of empty captions
    notes: dict[str, int]  # counts that belong beside the values (texts that BERTScore had to cut)


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
) -> CaptionScores:
    """Score the captions of one captioner on one split.

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
        siglip: values ``[N]`` of metrics that were computed beside the scorer.
        temperature: from ``grounding.fit_temperature`` on the selection references.
        caption_vectors: ``[N, E]``, the means of ``siglip.Chunks``.
        vector_centre: ``[E]``, mean of the references' caption vectors.
        bertscore: a loaded model.
        bertscore_baseline: ``BertScore.baseline`` of the train references.
        truncated: N flags, true where the caption ran into the token budget.
        are_references: the captions are taken from ``references`` themselves.
        reference_values: ``CaptionScores.values`` of the references, put beside each value.

    Raises:
        StudyError: inputs differ in length, an id repeats, or there is no caption.
    """
    n = len(ids)
    siglip = siglip or {}
    _check(ids, siglip)
    for what, entries in {
        "captions": captions,
        "references": references,
        "groups": groups,
        "categories": categories,
        "truncated": truncated,
        "matrix": matrix,
        "caption_vectors": caption_vectors,
        **siglip,
    }.items():
        if entries is not None and len(entries) != n:
            raise StudyError(
                f"{what} has {len(entries)} entries for {n} clip ids; expected as many."
            )
    inputs = CaptionInputs(
        tokens or tokenize(captions, language),
        frozen(references, 2),
        frozen(train_references, 2),
        ids,
        list(categories) if categories is not None else [None] * n,
        matrix,
        temperature,
        caption_vectors,
        vector_centre,
        bertscore,
        bertscore_baseline,
        truncated,
    )
    groups = list(groups) if groups is not None else list(ids)
    values: dict[str, dict[str, float | None]] = {}
    columns: dict[str, np.ndarray] = {}
    not_computed: dict[str, str] = {}
    for name, metric in METRICS.items():
        try:
            found = _compute(metric, inputs, siglip, n, are_references)
            if metric.per_clip:
                columns[name] = np.asarray(found, dtype=np.float64)
            values[name] = _value(metric, found, inputs, groups)
            values[name]["reference"] = (reference_values or {}).get(name, {}).get("value")
        except Undefined as why:
            not_computed[name] = str(why)

    missing = np.full(n, np.nan)
    rank = missing
    if inputs.similarity is not None and n > 1:
        rank = ranks(inputs.similarity, inputs.empty).mean_rank()
    per_clip = {
        "retrieval_rank": rank,
        **{name: columns.get(name, missing) for name, m in METRICS.items() if m.per_clip},
    }
    clips = pl.DataFrame(
        {
            "id": list(ids),
            "group": groups,
            "category": pl.Series(inputs.categories, dtype=pl.String),
            "caption": list(captions),
            "cluster": inputs.cluster,
            **per_clip,
        }
    ).with_columns(pl.col(list(per_clip)).fill_nan(None))
    notes = {}
    if bertscore is not None and "bertscore_f1" in values:
        texts = [text for own in references for text in own]
        notes["bertscore_truncated"] = bertscore.n_truncated(captions)
        notes["bertscore_truncated_references"] = bertscore.n_truncated(texts)
    return CaptionScores(
        values,
        clips,
        metric_metadata(values, language),
        not_computed,
        int(inputs.empty.sum()),
        notes,
    )


def metric_metadata(names: Sequence[str] | Mapping[str, Any], language: str) -> dict[str, Any]:
    """The ``"metrics"`` part of ``metrics/1``: version, unit, range, direction, tokenizer."""
    tokenizers = tokenizer_names(language)
    return {
        name: METRICS[name].as_json(tokenizers[kind] if (kind := METRICS[name].tokens) else None)
        for name in names
    }


def _check(ids: Sequence[str], siglip: Mapping[str, np.ndarray]) -> None:
    if not ids:
        raise StudyError("no caption to score; expected at least one clip in the split.")
    check_unique_ids(ids, "the captions")
    beside = [name for name, metric in METRICS.items() if metric.beside_scorer]
    unknown = sorted(set(siglip) - set(beside))
    if unknown:
        raise StudyError(f"siglip has the columns {unknown}; expected some of {', '.join(beside)}.")


def _compute(
    metric: Metric, inputs: CaptionInputs, siglip: Mapping[str, np.ndarray], n: int, human: bool
) -> Any:
    """What the metric's function gives, or :class:`Undefined` with the reason."""
    if metric.beside_scorer:
        if metric.name not in siglip:
            raise Undefined(_NO_SCORER)
        return siglip[metric.name]
    if metric.with_reference and human:
        raise Undefined("the captions are the references themselves")
    arguments = inputs.of(metric, metric.function)
    if n < metric.least_clips:
        raise Undefined("there is no other clip to compare with")
    found = metric.function(**arguments)
    if metric.per_clip and np.shape(found) != (n,):
        raise StudyError(f"metric {metric.name} gives {np.shape(found)}; expected a value a clip.")
    return found


def _value(
    metric: Metric, found: Any, inputs: CaptionInputs, groups: Sequence[str]
) -> dict[str, float | None]:
    """The mean over groups with its interval and the value of chance."""
    if metric.per_clip:
        told = mean_with_bounds(found, groups, metric)
    else:
        value = float(found) if math.isfinite(found) else None
        told = {"value": value, "low": None, "high": None}
    if told["value"] is None:
        raise Undefined("no clip has a value")
    chance = metric.chance
    value_of_chance = chance(**inputs.of(metric, chance)) if callable(chance) else chance
    return {**told, "reference": None, "chance": value_of_chance}
