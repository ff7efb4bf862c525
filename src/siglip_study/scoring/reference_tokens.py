"""The references of a split as tokens, made once for all cells that are scored on it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.metrics.cider import CiderReferences, DocumentFrequencies
from siglip_study.metrics.meteor import MeteorReferences
from siglip_study.metrics.mismatch import other_clips
from siglip_study.metrics.token_lists import ReferenceLists, lengths
from siglip_study.metrics.tokens import tokenizer_for


@dataclass(frozen=True)
class References:
    """References of a split, split into tokens once for all cells."""

    content: ReferenceLists
    all: ReferenceLists
    characters: ReferenceLists
    words: ReferenceLists

    @functools.cached_property
    def meteor(self) -> dict[str, MeteorReferences]:
        """Each kind of tokens, ready for METEOR."""
        kinds = ("content", "all", "characters", "words")
        return {kind: MeteorReferences(getattr(self, kind)) for kind in kinds}


@functools.lru_cache(maxsize=4)
def reference_tokens(references: tuple[tuple[str, ...], ...], language: str) -> References:
    """The references' tokens in all four ways; cached, since every cell is scored on the same."""
    tokens = tokenizer_for(language)([text for refs in references for text in refs])
    counts = lengths(references)
    kinds = (tokens.content, tokens.all, tokens.characters, tokens.words)
    return References(*(ReferenceLists(kind, counts) for kind in kinds))


@functools.lru_cache(maxsize=2)
def cider_references(
    references: tuple[tuple[str, ...], ...], train: tuple[tuple[str, ...], ...], language: str
) -> CiderReferences:
    """The references ready for CIDEr, with the train references' frequencies; cached likewise."""
    frequencies = DocumentFrequencies.of(reference_tokens(train, language).all)
    return CiderReferences(reference_tokens(references, language).all, frequencies)


@functools.lru_cache(maxsize=4)
def cached_others(ids: tuple[str, ...], categories: tuple[str | None, ...]) -> list[np.ndarray]:
    """``mismatch.other_clips``; cached likewise."""
    return other_clips(ids, categories)


def frozen(references: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """References as tuples, which can be keys of a cache."""
    return tuple(tuple(refs) for refs in references)
