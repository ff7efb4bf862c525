"""METEOR (Lavie and Agarwal, 2007) with exact matches only, on tokens of the caller's choice.

Stems and synonyms are left out: for Korean neither WordNet nor the Porter stemmer says anything,
and a morpheme is its own stem. Scores lie in [0, 1]; no token or no match scores 0.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siglip_study.metrics.base import MetricResult
from siglip_study.metrics.meteor_references import MeteorReferences
from siglip_study.metrics.ngrams import numbered
from siglip_study.metrics.token_lists import Integers, ReferenceLists, TokenLists, Tokens

DEFAULT_ALPHA = 0.9
DEFAULT_BETA = 3.0
DEFAULT_GAMMA = 0.5

_MODULE = Path(__file__).parent / "evaluate_modules" / "meteor_tokens"


class _NoSynonyms:
    """Stands in for WordNet where there is none: no word has a synonym."""

    def synsets(self, word: str) -> list[object]:
        return []


class _NoStems:
    """Stands in for a stemmer where tokens are morphemes already."""

    def stem(self, word: str) -> str:
        return word


def meteor_tokens(
    reference_tokens: Sequence[Tokens],
    hypothesis_tokens: Tokens,
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    gamma: float = DEFAULT_GAMMA,
) -> float:
    """METEOR of one caption against its references by nltk; the best reference counts.

    Args:
        reference_tokens: tokens of each reference.
        hypothesis_tokens: tokens of the caption.
        alpha: weight of precision against recall in their harmonic mean.
        beta: exponent of the fragmentation penalty.
        gamma: greatest fragmentation penalty.

    Returns:
        Score in [0, 1]; 0 without references.
    """
    from nltk.translate.meteor_score import single_meteor_score

    scores = [
        single_meteor_score(
            list(reference),
            list(hypothesis_tokens),
            preprocess=str,
            stemmer=_NoStems(),
            wordnet=_NoSynonyms(),
            alpha=alpha,
            beta=beta,
            gamma=gamma,
        )
        for reference in reference_tokens
    ]
    return max(scores, default=0.0)


@functools.cache
def _module() -> tuple[Any, tempfile.TemporaryDirectory[str]]:
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


def meteor(
    references: Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    gamma: float = DEFAULT_GAMMA,
) -> MetricResult:
    """METEOR of every caption against its own references, through the local ``evaluate`` module.

    Works offline and writes nothing but a temporary folder. The first call imports ``evaluate``,
    which takes seconds.

    Args:
        references: ``[N]`` lists of one or more token lists.
        hypotheses: ``[N]`` token lists.
        alpha: see :func:`meteor_tokens`.
        beta: see :func:`meteor_tokens`.
        gamma: see :func:`meteor_tokens`.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} reference lists for {len(hypotheses)} captions")
    if not hypotheses:
        # evaluate raises IndexError on an empty list.
        return MetricResult(0.0, np.zeros(0))
    module, _ = _module()
    result = module.compute(
        predictions=[list(tokens) for tokens in hypotheses],
        references=[[list(tokens) for tokens in refs] for refs in references],
        alpha=alpha,
        beta=beta,
        gamma=gamma,
    )
    return MetricResult(float(result["meteor"]), np.array(result["per_clip"], dtype=np.float64))


def _scores(
    matches: Integers,
    joined: Integers,
    n_caption: Integers,
    n_reference: Integers,
    weights: tuple[float, float, float],
) -> NDArray[np.float64]:
    """METEOR of P pairs ``[P]``.

    Args:
        matches: tokens that match.
        joined: matches whose next token matches the reference's next one.
        n_caption: tokens of the caption.
        n_reference: tokens of the reference.
        weights: alpha, beta, gamma.
    """
    alpha, beta, gamma = weights
    scores = np.zeros(len(matches))
    hit = np.flatnonzero(matches)
    if not len(hit):
        return scores
    m = matches[hit]
    precision, recall = m / n_caption[hit], m / n_reference[hit]
    fmean = (precision * recall) / (alpha * precision + (1 - alpha) * recall)
    chunks = m - joined[hit]
    # Python's power, not numpy's, which may differ from nltk's in the last bit; once for the same.
    base = int(m.max()) + 1
    pair, number = numbered(chunks * base + m)
    penalty = np.array([x**beta for x in (pair // base / (pair % base)).tolist()])[number]
    scores[hit] = (1 - gamma * penalty) * fmean
    return scores


def meteor_pairs(
    references: ReferenceLists | Sequence[Sequence[Tokens]] | MeteorReferences,
    hypotheses: Sequence[Tokens],
    others: Sequence[np.ndarray],
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    gamma: float = DEFAULT_GAMMA,
) -> list[np.ndarray]:
    """METEOR of caption i against the references of the clips ``others[i]``.

    Equal to :func:`meteor_tokens` to the last bit (a test compares thousands of random lists), and
    a hundred times as fast: references are indexed once, and a caption is looked up in all of its
    references together.

    Args:
        references: N lists of token lists, or ``MeteorReferences`` made of them beforehand.
        hypotheses: N captions.
        others: N arrays of positions among the references.
        alpha: see :func:`meteor_tokens`.
        beta: see :func:`meteor_tokens`.
        gamma: see :func:`meteor_tokens`.

    Returns:
        N arrays, one score a compared clip, in the order of ``others``.
    """
    if len(hypotheses) != len(others):
        raise ValueError(f"{len(others)} lists of clips for {len(hypotheses)} captions")
    index = references if isinstance(references, MeteorReferences) else MeteorReferences(references)
    captions = TokenLists.of(hypotheses)
    if not len(captions):
        return []
    rows, compared = index.rows(captions), np.array([len(clips) for clips in others])
    clips = np.concatenate(list(others))
    wanted, starts = index.references_of(clips)
    caption = np.repeat(np.repeat(np.arange(len(captions)), compared), index.counts[clips])
    matches, following = np.zeros((2, len(wanted)), dtype=np.int64)
    token_ends = np.cumsum(captions.sizes).tolist()
    pair_ends = np.searchsorted(caption, np.arange(len(captions)), side="right").tolist()
    for tokens, pairs in zip(_slices(token_ends), _slices(pair_ends), strict=True):
        places = index.look_up_all(rows[tokens], wanted[pairs])
        matches[pairs] = (places >= 0).sum(axis=0)
        following[pairs] = (places[1:] - places[:-1] == 1).sum(axis=0)
    sizes = captions.sizes[caption], index.sizes[wanted]
    found = _best(
        _scores(matches, following, *sizes, (alpha, beta, gamma)), starts, index.counts[clips]
    )
    return np.split(found, np.cumsum(compared)[:-1])


def _slices(ends: list[int]) -> list[slice]:
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def meteor_own(
    references: ReferenceLists | Sequence[Sequence[Tokens]] | MeteorReferences,
    hypotheses: Sequence[Tokens],
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    gamma: float = DEFAULT_GAMMA,
) -> np.ndarray:
    """METEOR of every caption against its own clip's references ``[N]``, all captions at once.

    Args:
        references: see :func:`meteor_pairs`.
        hypotheses: N captions.
        alpha: see :func:`meteor_tokens`.
        beta: see :func:`meteor_tokens`.
        gamma: see :func:`meteor_tokens`.
    """
    index = references if isinstance(references, MeteorReferences) else MeteorReferences(references)
    captions = TokenLists.of(hypotheses)
    if len(captions) != len(index.counts):
        raise ValueError(f"{len(index.counts)} lists of references for {len(captions)} captions")
    # Each reference has its caption's tokens to itself, in a row.
    sizes = captions.sizes[index.clip]
    pair = np.repeat(np.arange(len(sizes)), sizes)
    starts = (np.cumsum(captions.sizes) - captions.sizes)[index.clip] - (np.cumsum(sizes) - sizes)
    places = index.look_up(index.rows(captions)[np.arange(len(pair)) + starts[pair]], pair)
    matched = places >= 0
    joined = (places[1:] - places[:-1] == 1) & (pair[1:] == pair[:-1])
    found = _scores(
        np.bincount(pair[matched], minlength=len(sizes)),
        np.bincount(pair[1:][joined], minlength=len(sizes)),
        sizes,
        index.sizes,
        (alpha, beta, gamma),
    )
    return _best(found, index.first, index.counts)


def _best(scores: NDArray[np.float64], starts: Integers, counts: Integers) -> NDArray[np.float64]:
    """The best of each clip's references, which stand in a row; a clip without any has 0."""
    if not len(starts):
        return np.zeros(0)
    return np.where(counts > 0, np.maximum.reduceat(np.append(scores, 0.0), starts), 0.0)


def meteor_matrix(
    references: Sequence[Sequence[Tokens]], hypotheses: Sequence[Tokens]
) -> np.ndarray:
    """METEOR of every caption against every clip's references: ``[N captions, N clips]``."""
    everyone = np.arange(len(references))
    rows = meteor_pairs(references, hypotheses, [everyone] * len(hypotheses))
    return np.stack(rows) if rows else np.zeros((0, len(references)))


def meteor_mismatched(
    references: ReferenceLists | Sequence[Sequence[Tokens]] | MeteorReferences,
    hypotheses: Sequence[Tokens],
    others: Sequence[np.ndarray],
) -> MetricResult:
    """Mean METEOR of each caption against other clips' references (``mismatch.other_clips``).

    This is what fluent, generic language earns without seeing the clip. NaN for a single clip.
    """
    rows = meteor_pairs(references, hypotheses, others)
    if rows and len(rows[0]) and len({len(row) for row in rows}) == 1:
        # At once: a thousand calls of numpy take longer than the sums.
        per_clip = np.stack(rows).mean(axis=1)
    else:
        per_clip = np.array([row.mean() if len(row) else np.nan for row in rows])
    return MetricResult(float(per_clip.mean()) if len(per_clip) else float("nan"), per_clip)
