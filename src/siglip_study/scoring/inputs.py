"""What the captions of one captioner are scored with, under the names that metrics ask for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siglip_study.metrics.base import Metric, Undefined, frozen, parameters
from siglip_study.metrics.diversity import clusters
from siglip_study.metrics.grounding import LEAST_IN_CATEGORY, large_categories
from siglip_study.metrics.meteor import other_clips
from siglip_study.metrics.siglip import EMPTY_COSINE
from siglip_study.metrics.tokens import Lists, Tokens, normalise, tokenize

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

    The attributes are those of :func:`~siglip_study.scoring.score_captions.score_captions`.
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
        return {name: self._input(name, metric.tokens) for name in parameters(function)}

    def _input(self, name: str, kind: str | None) -> Any:
        if name in ("captions", "references", "train"):
            return self._texts(name, None if kind == "model" else kind)
        found = getattr(self, name)
        if found is None:
            raise Undefined(_ABSENT[name])
        return found

    def _texts(self, name: str, kind: str | None) -> Any:
        if name == "captions":
            return self.tokens.texts if kind is None else getattr(self.tokens, kind)
        texts = self.reference_texts if name == "references" else self.train_texts
        return texts if kind is None else reference_tokens(texts, self.tokens.language, kind)

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


@functools.lru_cache(maxsize=4)
def _split(texts: tuple[tuple[str, ...], ...], language: str) -> Tokens:
    return tokenize([text for references in texts for text in references], language)


# Every captioner is held against the same references.
@functools.lru_cache(maxsize=16)
def reference_tokens(
    texts: tuple[tuple[str, ...], ...], language: str, kind: str
) -> tuple[Lists, ...]:
    """Tokens of each clip's references, split once for all captioners."""
    flat = iter(getattr(_split(texts, language), kind))
    return tuple(tuple(next(flat) for _ in references) for references in texts)


def frozen_texts(references: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """References as tuples, which can be keys of a cache."""
    return frozen(references, 2)
