"""METEOR (Lavie and Agarwal, 2007) with exact matches only, on tokens of the caller's choice.

Stems and synonyms are left out: for Korean neither WordNet nor the Porter stemmer says anything,
and a morpheme is its own stem. Scores lie in [0, 1]; no token or no match scores 0.

On Kiwi's tokens, captions and their own references go through ``evaluate`` and nltk. nltk compares
every token with every other, which is too slow for captions with fifty or a hundred other clips'
references, and for characters: these go through :func:`pair_score`, which gives nltk's numbers to
the last bit (a test holds it). ``docs/speed.md`` has the measurement.
"""

from __future__ import annotations

import functools
import random
import tempfile
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from siglip_study.metrics.base import PerClip, ReferenceTokens, TokenLists, frozen, metric
from siglip_study.metrics.tokens import Lists

ALPHA = 0.9  #: weight of recall against precision in their harmonic mean
BETA = 3.0  #: exponent of the fragmentation penalty
GAMMA = 0.5  #: greatest fragmentation penalty

_MODULE = Path(__file__).with_name("_nltk_meteor.py")


@metric(bounds=(0, 1), higher_is_better=True, tokens="content", version="2", with_reference=True)
def meteor(captions: TokenLists, references: ReferenceTokens) -> PerClip:
    """METEOR on content tokens (α .9, β 3, γ .5; exact matches).

    ``[N]``; the best of a clip's references counts.
    """
    return np.array(_by_nltk(frozen(captions, 2), frozen(references, 3)))


@metric(bounds=(0, 1), higher_is_better=True, tokens="all", version="2", with_reference=True)
def meteor_all(captions: TokenLists, references: ReferenceTokens) -> PerClip:
    """METEOR on all tokens; Korean particles give it a floor."""
    return np.array(_by_nltk(frozen(captions, 2), frozen(references, 3)))


@metric(bounds=(0, 1), higher_is_better=True, tokens="characters", with_reference=True)
def meteor_characters(captions: TokenLists, references: ReferenceTokens) -> PerClip:
    """METEOR on characters."""
    return own_scores(captions, references)


@metric(bounds=(0, 1), higher_is_better=True, tokens="words", with_reference=True)
def meteor_words(captions: TokenLists, references: ReferenceTokens) -> PerClip:
    """METEOR on what stands between white space, as published."""
    return own_scores(captions, references)


@metric(bounds=(0, 1), higher_is_better=None, tokens="content", version="2", least_clips=2)
def meteor_mismatched(
    captions: TokenLists,
    references: ReferenceTokens,
    others: Sequence[Sequence[int]] | None = None,
) -> PerClip:
    """METEOR against other clips' references.

    ``[N]`` means over these: what fluent, generic language earns without seeing the clip. Without
    ``others``, the clips are those of :func:`other_clips`, named by their positions.
    """
    if others is None:
        others = other_clips([f"{i:09d}" for i in range(len(captions))])
    return np.array(_mismatched(frozen(captions, 2), frozen(references, 3), frozen(others, 2)))


@metric(
    bounds=(-1, 1),
    higher_is_better=True,
    tokens="content",
    version="2",
    chance=0.0,
    with_reference=True,
    least_clips=2,
)
def meteor_gain(
    captions: TokenLists,
    references: ReferenceTokens,
    others: Sequence[Sequence[int]] | None = None,
) -> PerClip:
    """METEOR with the own reference minus METEOR with others'.

    What a caption earns by being about its own clip: ``[N]``.
    """
    return meteor(captions, references) - meteor_mismatched(captions, references, others)


# ---- nltk, through evaluate.


@functools.cache
def _nltk() -> tuple[Any, tempfile.TemporaryDirectory[str]]:
    """nltk's METEOR as a metric of evaluate, and the folder that it needs as long as it lives."""
    import evaluate

    # evaluate copies the module under HF_HOME, which may be read-only or shared between jobs.
    cache = tempfile.TemporaryDirectory(prefix="siglip-study-evaluate-")
    before = evaluate.config.HF_MODULES_CACHE
    evaluate.config.HF_MODULES_CACHE = Path(cache.name) / "modules"
    try:
        module = evaluate.load(
            str(_MODULE), cache_dir=str(Path(cache.name) / "metrics"), keep_in_memory=True
        )
    finally:
        evaluate.config.HF_MODULES_CACHE = before
    return module, cache


# Kept, since the gain needs it too.
@functools.lru_cache(maxsize=2)
def _by_nltk(captions: Lists, references: tuple[Lists, ...]) -> list[float]:
    # evaluate refuses an empty list.
    if not captions:
        return []
    found = _nltk()[0].compute(
        predictions=captions, references=references, alpha=ALPHA, beta=BETA, gamma=GAMMA
    )
    return list(found["meteor"])


# ---- The same for many pairs.


@dataclass(frozen=True)
class Aligned:
    """A text, ready to be aligned with others.

    nltk matches from the last token back, each to the last free equal one: the k-th last "a" of a
    caption goes with the k-th last "a" of the reference. With each token told apart by how many
    equal ones follow it, what two texts share is an intersection of sets.

    Attributes:
        size: tokens.
        tokens: the tokens, told apart.
        neighbours: each with its next one.
    """

    size: int
    tokens: frozenset[Hashable]
    neighbours: frozenset[tuple[Hashable, Hashable]]

    @classmethod
    def of(cls, tokens: Sequence[str]) -> Aligned:
        """Tell equal tokens apart."""
        seen: Counter[str] = Counter()
        keys: list[Hashable] = []
        for token in reversed(tokens):
            keys.append((token, seen[token]) if seen[token] else token)
            seen[token] += 1
        return cls(len(tokens), frozenset(keys), frozenset(pairwise(keys)))


def pair_score(caption: Aligned, reference: Aligned) -> float:
    """METEOR of a caption and a reference."""
    matches = len(caption.tokens & reference.tokens)
    if not matches:
        return 0.0
    # A chunk ends wherever the next match does not follow in both.
    chunks = matches - len(caption.neighbours & reference.neighbours)
    precision, recall = matches / caption.size, matches / reference.size
    f_mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    return float((1 - GAMMA * (chunks / matches) ** BETA) * f_mean)


def own_scores(captions: TokenLists, references: ReferenceTokens) -> PerClip:
    """METEOR of each caption with its own clip's references, the best one counting: ``[N]``."""
    index = _index(frozen(references, 3))
    aligned = map(Aligned.of, captions)
    return np.array([_best(one, wanted) for one, wanted in zip(aligned, index, strict=True)])


def _best(caption: Aligned, references: Sequence[Aligned]) -> float:
    return max([pair_score(caption, reference) for reference in references], default=0.0)


# References are the same for all captioners; a set for each kind of tokens.
@functools.lru_cache(maxsize=8)
def _index(references: tuple[Lists, ...]) -> list[list[Aligned]]:
    return [[Aligned.of(tokens) for tokens in wanted] for wanted in references]


@functools.lru_cache(maxsize=2)
def _mismatched(
    captions: Lists, references: tuple[Lists, ...], others: tuple[tuple[int, ...], ...]
) -> list[float]:
    index = _index(references)
    means = []
    for tokens, clips in zip(captions, others, strict=True):
        caption = Aligned.of(tokens)
        scores = [_best(caption, index[j]) for j in clips]
        means.append(float(np.mean(scores)) if scores else float("nan"))
    return means


# ---- Which other clips a caption is compared with when its own is to be told from theirs.

ALL_UP_TO = 100
SAMPLED = 50


def other_clips(
    ids: Sequence[str], categories: Sequence[str | None] | None = None, seed: int = 0
) -> tuple[tuple[int, ...], ...]:
    """Positions of the clips that each clip is compared with, never its own.

    All others up to 100 clips; beyond that 50 fixed ones, half of them of the same category as far
    as it has that many (a clip whose category is None has no such mates). The draw depends on ids
    and seed alone, so that the order of the clips and the cell that is scored change nothing.
    """
    return _other_clips(tuple(ids), tuple(categories or [None] * len(ids)), seed)


@functools.lru_cache(maxsize=4)
def _other_clips(
    ids: tuple[str, ...], labels: tuple[str | None, ...], seed: int
) -> tuple[tuple[int, ...], ...]:
    n = len(ids)
    if n <= ALL_UP_TO:
        return tuple((*range(i), *range(i + 1, n)) for i in range(n))
    order = sorted(range(n), key=lambda i: ids[i])
    alike = {label: [j for j in order if labels[j] == label] for label in set(labels) - {None}}
    unlike = {label: [j for j in order if labels[j] != label] for label in alike}
    chosen = []
    for i, label in enumerate(labels):
        mates = [j for j in alike.get(label, []) if j != i]
        elsewhere = unlike[label] if label in unlike else [j for j in order if j != i]
        n_elsewhere = min(len(elsewhere), SAMPLED - min(len(mates), SAMPLED // 2))
        n_mates = min(len(mates), SAMPLED - n_elsewhere)
        # A string seed is hashed with SHA-512, the same on every machine.
        rng = random.Random(f"{seed}:{ids[i]}")
        drawn = rng.sample(mates, n_mates) + rng.sample(elsewhere, n_elsewhere)
        chosen.append(tuple(sorted(drawn)))
    return tuple(chosen)
