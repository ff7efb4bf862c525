"""How many different captions there are, and how much captions repeat themselves or others.

Captions are compared in Unicode NFC with white space collapsed. Empty captions are captions like
any other here: together they are one cluster, so that a model that falls silent scores as one that
always says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from siglip_study.metrics.base import MetricResult
from siglip_study.metrics.ngrams import Held, Ngrams, numbered
from siglip_study.metrics.token_lists import (
    Integers,
    ReferenceLists,
    TokenLists,
    Tokens,
    code_points,
    lengths,
)
from siglip_study.metrics.tokens import normalise

GRAM = 3
THRESHOLD = 0.8
#: Texts with a 3-gram beyond which it counts as common, and common 3-grams a dense product.
_COMMON = 100
_BLOCK = 4096


def _incidence(texts: Sequence[str]) -> tuple[Integers, Integers, int]:
    """Text and character 3-gram of every different pair of them, and how many 3-grams there are.

    A text shorter than a 3-gram is its own only gram, so two are alike only if equal.
    """
    sizes = lengths(texts)
    filled = np.maximum(sizes, GRAM)
    ends = np.cumsum(filled)
    point = code_points("".join(texts))
    # Short texts are filled up with a letter that no text has.
    letter = np.full(int(filled.sum()), point.max(initial=0) + 1)
    given = np.ones(len(letter), dtype=bool)
    for back in range(1, GRAM + 1):
        given[ends[filled - sizes >= back] - back] = False
    letter[given] = point
    # Numbered without gaps, three letters have few bits, which are counted fast.
    kinds, letter = numbered(letter)
    code = letter[:-2] * len(kinds)
    code += letter[1:-1]
    code *= len(kinds)
    code += letter[2:]
    within = np.ones(len(code), dtype=bool)
    for back in range(1, GRAM):
        # These begin in one text and end in the next.
        within[ends[:-1] - back] = False
    held = Held.of(np.repeat(np.arange(len(texts)), filled - GRAM + 1), code[within])
    return held.owner, held.gram, len(held.codes)


def _near(texts: Sequence[str], threshold: float) -> np.ndarray:
    """``[U, U]`` bool: character 3-gram Jaccard at least ``threshold``."""
    from scipy.sparse import csr_matrix

    owner, gram, n_grams = _incidence(texts)
    n = len(texts)
    # A rare 3-gram costs a sparse product its few pairs, a common one all pairs, which a dense
    # product has for less.
    common = np.bincount(gram, minlength=n_grams) > _COMMON
    shared = np.zeros((n, n), dtype=np.float32)
    columns = np.flatnonzero(common)
    for start in range(0, len(columns), _BLOCK):
        block = columns[start : start + _BLOCK]
        here = np.flatnonzero((gram >= block[0]) & (gram <= block[-1]) & common[gram])
        dense = np.zeros((n, len(block)), dtype=np.float32)
        dense[owner[here], np.searchsorted(block, gram[here])] = 1
        shared += dense @ dense.T
    here = np.flatnonzero(~common[gram])
    ones = np.ones(len(here), dtype=np.float32)
    rare = csr_matrix((ones, (owner[here], gram[here])), shape=(n, n_grams))
    # Whole numbers below 2^24, so float32 is exact.
    shared += csr_matrix(rare @ rare.T).toarray()
    sizes = np.bincount(owner, minlength=n)
    union = sizes[:, None] + sizes[None, :] - shared.astype(np.float64)
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


def effective_captions(cluster: np.ndarray) -> float:
    """exp(entropy of the clusters) / n, in [1/n, 1]: the share of really different captions."""
    if len(cluster) == 0:
        return 0.0
    share = np.bincount(cluster) / len(cluster)
    share = share[share > 0]
    # Rounding can lift n different captions a hair over 1.
    return min(1.0, float(np.exp(-(share * np.log(share)).sum()) / len(cluster)))


def top_cluster_share(cluster: np.ndarray) -> float:
    """Share of the captions in the largest cluster, in [1/n, 1]."""
    return float(np.bincount(cluster).max() / len(cluster)) if len(cluster) else 0.0


def distinct_ratio(captions: Sequence[str]) -> float:
    """Distinct strings / strings, in [1/n, 1]; the published study's diversity."""
    texts = [normalise(caption) for caption in captions]
    return len(set(texts)) / len(texts) if texts else 0.0


def distinct_n(token_lists: Sequence[Tokens], order: int, ngrams: Ngrams | None = None) -> float:
    """Distinct n-grams / n-grams over all captions (Li et al., 2016); 0 where there is none.

    Args:
        token_lists: N captions.
        order: n, from 1 to 4.
        ngrams: theirs, if they have been counted already.
    """
    counted = (ngrams if ngrams is not None else Ngrams.of(token_lists)).orders[order - 1]
    total = int(counted.total.sum())
    return len(counted.last) / total if total else 0.0


def repetition_4(token_lists: Sequence[Tokens], ngrams: Ngrams | None = None) -> MetricResult:
    """Per caption, the share of its 4-grams that repeat an earlier one; 0 below four tokens.

    Args:
        token_lists: N captions.
        ngrams: theirs, if they have been counted already.
    """
    counted = (ngrams if ngrams is not None else Ngrams.of(token_lists)).orders[3]
    different = np.bincount(counted.owner, minlength=len(token_lists))
    per_clip = np.zeros(len(token_lists))
    some = counted.total > 0
    per_clip[some] = 1 - different[some] / counted.total[some]
    return MetricResult(_mean(per_clip), per_clip)


def novelty(captions: Sequence[str], train_captions: Iterable[str]) -> MetricResult:
    """Per caption, 1 if no train reference equals it, else 0; an empty caption is 0."""
    known = {normalise(caption) for caption in train_captions} | {""}
    per_clip = np.array([float(normalise(caption) not in known) for caption in captions])
    return MetricResult(_mean(per_clip), per_clip)


def length_ratio(
    token_lists: Sequence[Tokens], references: ReferenceLists | Sequence[Sequence[Tokens]]
) -> MetricResult:
    """Tokens of a caption / mean tokens of its references; corpus: of the sums over clips.

    NaN per clip where the references have no token; the corpus value is 0 if none has any.
    """
    own = TokenLists.of(token_lists).sizes.astype(np.float64)
    lists = ReferenceLists.of(references)
    tokens = np.bincount(lists.clip, lists.flat.sizes, minlength=len(lists))
    wanted = tokens / np.maximum(lists.counts, 1)
    per_clip = np.divide(own, wanted, out=np.full(len(own), np.nan), where=wanted > 0)
    total = wanted.sum()
    return MetricResult(float(own.sum() / total) if total > 0 else 0.0, per_clip)


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


def vendi(embeddings: np.ndarray, centre: np.ndarray) -> float:
    """Vendi score of caption embeddings ``[N, E]`` around a fixed ``centre`` ``[E]``.

    Sentence embeddings share a large common part, which hides every difference; it is taken off
    first. The centre is that of the references and not of the captions themselves, around which
    even sixty nearly equal captions would look diverse.
    """
    moved = np.asarray(embeddings, dtype=np.float64) - np.asarray(centre, dtype=np.float64)
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


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
