"""Self-BLEU (Zhu et al., 2018): how well each caption is predicted by the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from siglip_study.metrics.base import MetricResult
from siglip_study.metrics.ngrams import ORDERS, Ngrams, Order
from siglip_study.metrics.token_lists import Integers, Tokens


def _clipped_hits(order: Order, n: int) -> Integers:
    """``[N]`` n-grams of each list that another list holds, counted at most as often as there."""
    grams = len(order.last)
    most = np.zeros(grams, dtype=np.int64)
    np.maximum.at(most, order.gram, order.count)
    top = order.count == most[order.gram]
    second = np.zeros(grams, dtype=np.int64)
    np.maximum.at(second, order.gram, np.where(top, 0, order.count))
    # Only a list that alone has the most finds fewer elsewhere.
    alone = np.bincount(order.gram, top, minlength=grams) == 1
    found = np.where(top & alone[order.gram], second[order.gram], order.count)
    return np.bincount(order.owner, found, minlength=n).astype(np.int64)


def _closest_lengths(sizes: Integers) -> Integers:
    """``[N]`` the length nearest to each one's own among all others; the shorter of two as near."""
    order = np.argsort(sizes, kind="stable")
    ordered = sizes[order]
    far = np.iinfo(np.int64).max // 4
    before = np.concatenate([[-far], ordered[:-1]])
    after = np.concatenate([ordered[1:], [far]])
    closest = np.empty_like(sizes)
    closest[order] = np.where(ordered - before <= after - ordered, before, after)
    return closest


def self_bleu(token_lists: Sequence[Tokens], ngrams: Ngrams | None = None) -> MetricResult:
    """BLEU-4 of each caption with all others as references, in [0, 1]; high means alike.

    As sacrebleu's sentence BLEU with ``smooth_method="exp"`` and ``use_effective_order=True``, over
    100. Counts are clipped by the best *other* caption, found for all captions in one pass. An
    empty caption scores 0, except that nothing is left to differ where all captions are empty: 1.
    A single caption has no others: 0.

    Args:
        token_lists: N captions.
        ngrams: theirs, if they have been counted already.
    """
    n = len(token_lists)
    if n < 2:
        return MetricResult(0.0, np.zeros(n))
    counted = ngrams if ngrams is not None else Ngrams.of(token_lists)
    if not counted.sizes.any():
        return MetricResult(1.0, np.ones(n))
    hits = np.stack([_clipped_hits(order, n) for order in counted.orders], axis=1).tolist()
    closest = _closest_lengths(counted.sizes).tolist()
    scores = map(_bleu, hits, counted.sizes.tolist(), closest)
    per_clip = np.fromiter(scores, dtype=np.float64, count=n)
    return MetricResult(float(per_clip.mean()), per_clip)


def _bleu(correct: list[int], length: int, reference_length: int) -> float:
    if correct[0] == 0:
        return 0.0
    logs = []
    smooth = 1.0
    for order, hits in zip(range(1, ORDERS + 1), correct, strict=True):
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
