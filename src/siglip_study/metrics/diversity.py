"""How many different captions there are, and how much captions repeat themselves or others.

Captions are compared in Unicode NFC with white space collapsed. Empty captions are captions like
any other here: together they are one cluster, so that a model that falls silent scores as one that
always says the same.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import numpy as np

from siglip_study.features.chunking import split_sentences
from siglip_study.metrics.base import PerClip, ReferenceTokens, TokenLists, metric
from siglip_study.metrics.tokens import ngrams, normalise

GRAM = 3
THRESHOLD = 0.8


# ---- Clusters of near-duplicates.


def _near(texts: Sequence[str], threshold: float) -> np.ndarray:
    """``[U, U]`` bool: Jaccard similarity of character 3-grams is at least ``threshold``.

    A text shorter than a 3-gram is its own only gram, so two are alike only if equal.
    """
    from scipy.sparse import csr_matrix

    grams = [{t[i : i + GRAM] for i in range(len(t) - GRAM + 1)} or {t} for t in texts]
    column: dict[str, int] = {}
    columns = [column.setdefault(gram, len(column)) for own in grams for gram in own]
    sizes = np.array([len(own) for own in grams])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(len(columns), dtype=np.int32)
    holds = csr_matrix((ones, columns, starts), shape=(len(texts), len(column)))
    shared = (holds @ holds.T).toarray()
    union = sizes[:, None] + sizes[None, :] - shared
    # The slack lets exactly 4/5 pass, which is not a binary fraction.
    return shared >= threshold * union - 1e-9


def clusters(
    captions: Sequence[str], ids: Sequence[str] | None = None, threshold: float = THRESHOLD
) -> np.ndarray:
    """Group near-duplicate captions around leaders.

    Captions are visited by falling number of neighbours (Jaccard of character 3-grams at least
    ``threshold``), ties by id. The first that belongs to nobody leads, and takes every neighbour of
    its own that belongs to nobody yet. Neighbours of neighbours are not taken: no chaining.

    Args:
        captions: N captions.
        ids: N ids that break ties, so that the clips' order changes nothing; positions if absent.
        threshold: least Jaccard similarity to the leader.

    Returns:
        ``[N]`` cluster numbers from 0, in the order in which the leaders were found.
    """
    texts = [normalise(caption) for caption in captions]
    unique = sorted(set(texts))
    where = {text: u for u, text in enumerate(unique)}
    kind = np.array([where[text] for text in texts], dtype=np.int64)
    if not len(kind):
        return kind
    near = _near(unique, threshold)
    copies = np.bincount(kind, minlength=len(unique))
    neighbours = near @ copies
    # Equal captions have equal neighbours; the first id among them speaks for all.
    keys = list(ids) if ids is not None else [f"{i:09d}" for i in range(len(texts))]
    first: dict[int, str] = {}
    for u, key in zip(kind.tolist(), keys, strict=True):
        first[u] = min(first.get(u, key), key)
    order = sorted(range(len(unique)), key=lambda u: (-neighbours[u], first[u]))
    cluster = np.full(len(unique), -1, dtype=np.int64)
    found = 0
    for u in order:
        if cluster[u] >= 0:
            continue
        cluster[near[u] & (cluster < 0)] = found
        found += 1
    return cluster[kind]


@metric(bounds=(0, 1), higher_is_better=True, tokens="characters", per_clip=False)
def effective_captions(cluster: np.ndarray) -> float:
    """exp(entropy of near-duplicate clusters) / captions.

    The share of really different captions, in [1/n, 1].
    """
    if len(cluster) == 0:
        return 0.0
    share = np.bincount(cluster) / len(cluster)
    share = share[share > 0]
    # Rounding can lift n different captions a hair over 1.
    return min(1.0, float(np.exp(-(share * np.log(share)).sum()) / len(cluster)))


@metric(bounds=(0, 1), higher_is_better=False, tokens="characters", per_clip=False)
def top_cluster_share(cluster: np.ndarray) -> float:
    """Share of the captions in the largest near-duplicate cluster."""
    return float(np.bincount(cluster).max() / len(cluster)) if len(cluster) else 0.0


# ---- Distinct strings and n-grams.


@metric(bounds=(0, 1), higher_is_better=True, per_clip=False)
def distinct_ratio(captions: Sequence[str]) -> float:
    """Distinct strings / captions, as published."""
    texts = [normalise(caption) for caption in captions]
    return len(set(texts)) / len(texts) if texts else 0.0


def _distinct(captions: TokenLists, n: int) -> float:
    """Distinct n-grams / n-grams over all captions (Li et al., 2016); 0 where there is none."""
    total = sum(max(len(tokens) - n + 1, 0) for tokens in captions)
    return len({gram for tokens in captions for gram in ngrams(tokens, n)}) / max(total, 1)


@metric(bounds=(0, 1), higher_is_better=True, tokens="all", version="2", per_clip=False)
def distinct_1(captions: TokenLists) -> float:
    """Distinct tokens / tokens over all captions."""
    return _distinct(captions, 1)


@metric(bounds=(0, 1), higher_is_better=True, tokens="all", version="2", per_clip=False)
def distinct_2(captions: TokenLists) -> float:
    """Distinct token pairs / token pairs over all captions."""
    return _distinct(captions, 2)


# ---- Self-BLEU.


@metric(
    bounds=(0, 1), higher_is_better=False, tokens="all", version="2", per_clip=False, least_clips=2
)
def self_bleu(captions: TokenLists) -> float:
    """BLEU-4 of each caption with the others as references.

    Mean of :func:`bleu_with_others` (Zhu et al., 2018); high means alike.
    """
    return float(bleu_with_others(captions).mean())


def bleu_with_others(captions: TokenLists) -> PerClip:
    """BLEU-4 of each caption with all others as references: ``[N]``.

    As sacrebleu's sentence BLEU with ``smooth_method="exp"`` and ``use_effective_order=True``, over
    100. Counts are clipped by the best *other* caption. An empty caption scores 0, except that
    nothing is left to differ where all captions are empty: 1. A single caption has no others: 0.
    """
    n = len(captions)
    if n < 2:
        return np.zeros(n)
    sizes = [len(tokens) for tokens in captions]
    if not any(sizes):
        return np.ones(n)
    hits = zip(*(_clipped_hits(captions, order) for order in range(1, 5)), strict=True)
    closest = _closest_lengths(sizes)
    return np.array([_bleu(*one) for one in zip(hits, sizes, closest, strict=True)])


def _clipped_hits(captions: TokenLists, order: int) -> list[int]:
    """N-grams of each caption that another one has, counted at most as often as there."""
    counts = [Counter(ngrams(tokens, order)) for tokens in captions]
    #: n-gram → its greatest count in one caption, and the greatest in another one
    most: dict[tuple[str, ...], tuple[int, int]] = {}
    for own in counts:
        for gram, count in own.items():
            first, second = most.get(gram, (0, 0))
            if count > first:
                most[gram] = count, first
            elif count > second:
                most[gram] = first, count

    def elsewhere(gram: tuple[str, ...], count: int) -> int:
        # Where two have the most, the second greatest is as great.
        first, second = most[gram]
        return second if count == first else first

    return [sum(min(c, elsewhere(gram, c)) for gram, c in own.items()) for own in counts]


def _closest_lengths(sizes: Sequence[int]) -> list[int]:
    """The length nearest to each one's own among all others; the shorter of two as near."""
    ordered = sorted(sizes)
    closest = []
    for size in sizes:
        place = bisect_left(ordered, size)
        # One of this length is itself.
        neighbours = ordered[max(place - 1, 0) : place] + ordered[place + 1 : place + 2]
        closest.append(min(neighbours, key=lambda other: (abs(other - size), other)))
    return closest


def _bleu(correct: Sequence[int], length: int, reference_length: int) -> float:
    if correct[0] == 0:
        return 0.0
    logs = []
    smooth = 1.0
    for order, hits in enumerate(correct, start=1):
        total = length - order + 1
        if total <= 0:
            break
        if hits == 0:
            smooth *= 2
            logs.append(math.log(1 / (smooth * total)))
        else:
            logs.append(math.log(hits / total))
    brevity = 1.0 if length >= reference_length else math.exp(1 - reference_length / length)
    return brevity * math.exp(sum(logs) / len(logs))


# ---- Diversity of embeddings.


def vendi_of_kernel(kernel: np.ndarray) -> float:
    """Vendi score of a similarity matrix ``[N, N]`` with unit diagonal, in [1, N].

    exp(entropy of the eigenvalues of K/N) (Friedman and Dieng, 2023): N for the identity, 1 where
    everything equals everything.
    """
    n = len(kernel)
    if n == 0:
        return 0.0
    return _effective(np.linalg.eigvalsh(kernel / n))


def _effective(values: np.ndarray) -> float:
    """exp(entropy) of eigenvalues that sum to 1."""
    values = values[values > 1e-12]
    values = values / values.sum()
    return float(np.exp(-(values * np.log(values)).sum()))


@metric(bounds=(1, None), higher_is_better=True, tokens="model", unit="captions", per_clip=False)
def vendi(vectors: np.ndarray, centre: np.ndarray) -> float:
    """Vendi score of caption embeddings around the references' centre; at most their number.

    Sentence embeddings share a large common part, which hides every difference; it is taken off
    first. The centre is that of the references and not of the captions themselves, around which
    even sixty nearly equal captions would look diverse.
    """
    moved = np.asarray(vectors, dtype=np.float64) - np.asarray(centre, dtype=np.float64)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    spread = norms[:, 0] > 1e-9
    moved[~spread] = 0
    unit = np.divide(moved, norms, out=moved, where=norms > 1e-9)
    if unit.shape[1] >= len(unit):
        kernel = unit @ unit.T
        np.fill_diagonal(kernel, 1.0)
        return vendi_of_kernel(kernel)
    # The kernel's eigenvalues other than 0 are those of the smaller matrix; a caption without
    # direction, which is like no other, has one of its own.
    n = len(unit)
    values = np.concatenate(
        [np.linalg.eigvalsh(unit.T @ unit / n), np.full((~spread).sum(), 1 / n)]
    )
    return _effective(values)


# ---- A caption by itself, and beside the references.


@metric(bounds=(0, 1), higher_is_better=None)
def novelty(captions: Sequence[str], train: Sequence[Sequence[str]]) -> PerClip:
    """Share of captions that are not a train reference word for word.

    ``[N]`` of 0 and 1; an empty caption is 0.
    """
    known = {normalise(text) for references in train for text in references} | {""}
    return np.array([float(normalise(caption) not in known) for caption in captions])


@metric(bounds=(0, 1), higher_is_better=False, tokens="all", version="2")
def repetition_4(captions: TokenLists) -> PerClip:
    """Share of a caption's 4-grams that repeat an earlier one.

    ``[N]``, 0 below four tokens.
    """
    grams = [list(ngrams(tokens, 4)) for tokens in captions]
    return np.array([1 - len(set(own)) / len(own) if own else 0.0 for own in grams])


@metric(bounds=(0, None), higher_is_better=None, tokens="all", version="2", per_clip=False)
def length_ratio(captions: TokenLists, references: ReferenceTokens) -> float:
    """Tokens of the captions / tokens of the references.

    The mean over a clip's references counts; 0 if there is no token.
    """
    wanted = sum(sum(map(len, refs)) / max(len(refs), 1) for refs in references)
    return sum(map(len, captions)) / wanted if wanted else 0.0


@metric(bounds=(0, None), higher_is_better=None)
def sentences(captions: Sequence[str]) -> PerClip:
    """Sentences of the caption: D in cosine falls with every one that is added."""
    return np.array([len(split_sentences(caption)) for caption in captions], dtype=float)


@metric(bounds=(0, 1), higher_is_better=False, tokens="model", per_clip=False)
def truncated_share(truncated: Sequence[bool]) -> float:
    """Share of captions that ran into the token budget."""
    return float(np.mean(truncated))
