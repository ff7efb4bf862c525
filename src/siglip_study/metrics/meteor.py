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

from siglip_study.metrics.base import MetricResult

DEFAULT_ALPHA = 0.9
DEFAULT_BETA = 3.0
DEFAULT_GAMMA = 0.5

_MODULE = Path(__file__).parent / "evaluate_modules" / "meteor_tokens"

Tokens = Sequence[str]


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


def _positions(tokens: Tokens) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for position, token in enumerate(tokens):
        found.setdefault(token, []).append(position)
    return found


def _single(
    positions: dict[str, list[int]],
    n_reference: int,
    hypothesis: Tokens,
    alpha: float,
    beta: float,
    gamma: float,
) -> float:
    """One pair, in nltk's order: from the last token back, each to the last free equal one."""
    used: dict[str, int] = {}
    matches, chunks = 0, 0
    next_hypothesis, next_reference = -1, -1
    for i in range(len(hypothesis) - 1, -1, -1):
        token = hypothesis[i]
        places = positions.get(token)
        if places is None:
            continue
        free = used.get(token, len(places))
        if free == 0:
            continue
        used[token] = free - 1
        j = places[free - 1]
        if i + 1 != next_hypothesis or j + 1 != next_reference:
            chunks += 1
        next_hypothesis, next_reference = i, j
        matches += 1
    if matches == 0:
        return 0.0
    precision = matches / len(hypothesis)
    recall = matches / n_reference
    fmean = (precision * recall) / (alpha * precision + (1 - alpha) * recall)
    return (1 - gamma * (chunks / matches) ** beta) * fmean


def meteor_pairs(
    references: Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    others: Sequence[np.ndarray],
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    gamma: float = DEFAULT_GAMMA,
) -> list[np.ndarray]:
    """METEOR of caption i against the references of the clips ``others[i]``.

    Equal to :func:`meteor_tokens` (a test compares thousands of random lists); about ten times as
    fast, since references are indexed once and equal captions are scored once.

    Returns:
        N arrays, one score a compared clip, in the order of ``others``.
    """
    indexed = [[(_positions(tokens), len(tokens)) for tokens in refs] for refs in references]
    known: dict[tuple[tuple[str, ...], int], float] = {}
    scores = []
    for hypothesis, clips in zip(hypotheses, others, strict=True):
        key = tuple(hypothesis)
        row = np.zeros(len(clips))
        for place, clip in enumerate(clips.tolist()):
            score = known.get((key, clip))
            if score is None:
                score = max(
                    (_single(pos, n, key, alpha, beta, gamma) for pos, n in indexed[clip]),
                    default=0.0,
                )
                known[key, clip] = score
            row[place] = score
        scores.append(row)
    return scores


def meteor_matrix(
    references: Sequence[Sequence[Tokens]], hypotheses: Sequence[Tokens]
) -> np.ndarray:
    """METEOR of every caption against every clip's references: ``[N captions, N clips]``."""
    everyone = np.arange(len(references))
    rows = meteor_pairs(references, hypotheses, [everyone] * len(hypotheses))
    return np.stack(rows) if rows else np.zeros((0, len(references)))


def meteor_mismatched(
    references: Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    others: Sequence[np.ndarray],
) -> MetricResult:
    """Mean METEOR of each caption against other clips' references (``mismatch.other_clips``).

    This is what fluent, generic language earns without seeing the clip. NaN for a single clip.
    """
    rows = meteor_pairs(references, hypotheses, others)
    per_clip = np.array([row.mean() if len(row) else np.nan for row in rows])
    return MetricResult(float(per_clip.mean()) if len(per_clip) else float("nan"), per_clip)
