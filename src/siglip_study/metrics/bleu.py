"""Self-BLEU (Zhu et al., 2018): how well each caption is predicted by the others."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import numpy as np

from siglip_study.metrics.base import MetricResult

ORDERS = 4

Tokens = Sequence[str]


def _top_two(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], list[int]]:
    """Per n-gram: its greatest count in one caption, which caption, and the next greatest."""
    top: dict[tuple[str, ...], list[int]] = {}
    for i, counter in enumerate(counts):
        for ngram, times in counter.items():
            best = top.get(ngram)
            if best is None:
                top[ngram] = [times, i, 0]
            elif times > best[0]:
                top[ngram] = [times, i, best[0]]
            elif times > best[2]:
                best[2] = times
    return top


def _closest_length(length: int, others: list[int]) -> int:
    """The length in ``others`` (sorted) nearest to ``length``; the shorter one of two as near."""
    place = bisect_left(others, length)
    near = others[max(place - 1, 0) : place + 1]
    return min(near, key=lambda other: (abs(other - length), other))


def self_bleu(token_lists: Sequence[Tokens]) -> MetricResult:
    """BLEU-4 of each caption with all others as references, in [0, 1]; high means alike.

    As sacrebleu's sentence BLEU with ``smooth_method="exp"`` and ``use_effective_order=True``, over
    100. Counts are clipped by the best *other* caption, found for all captions in one pass. An
    empty caption scores 0, except that nothing is left to differ where all captions are empty: 1.
    A single caption has no others: 0.
    """
    n = len(token_lists)
    per_clip = np.zeros(n)
    if n < 2:
        return MetricResult(0.0, per_clip)
    if not any(token_lists):
        return MetricResult(1.0, np.ones(n))
    lengths = [len(tokens) for tokens in token_lists]
    ordered = sorted(lengths)
    correct = np.zeros((n, ORDERS), dtype=np.int64)
    for order in range(1, ORDERS + 1):
        counts = [
            Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))
            for tokens in token_lists
        ]
        top = _top_two(counts)
        for i, counter in enumerate(counts):
            for ngram, times in counter.items():
                most, holder, second = top[ngram]
                correct[i, order - 1] += min(times, second if holder == i else most)
    for i, length in enumerate(lengths):
        place = bisect_left(ordered, length)
        closest = _closest_length(length, ordered[:place] + ordered[place + 1 :])
        per_clip[i] = _bleu(correct[i].tolist(), length, closest)
    return MetricResult(float(per_clip.mean()), per_clip)


def _bleu(correct: list[int], length: int, reference_length: int) -> float:
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
