"""Small instruments: linear probe, stated facts, retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from siglip_study.demo.facts import parse_facts
from siglip_study.demo.world import ATTRIBUTES, Scene


def majority_share(values: torch.Tensor) -> float:
    """Share of the most frequent value: what a constant answer scores."""
    return float(values.bincount().max()) / len(values)


def linear_probe(
    train_x: torch.Tensor, train_y: torch.Tensor, test_x: torch.Tensor, test_y: torch.Tensor
) -> float:
    """Test accuracy of multinomial logistic regression on standardised features [N, D].

    The L2 penalty is 1e-3 times the squared weights; minimised by L-BFGS.
    """
    mean, std = train_x.mean(0), train_x.std(0).clamp_min(1e-4)
    train_x, test_x = (train_x - mean) / std, (test_x - mean) / std
    classes = int(torch.cat([train_y, test_y]).max()) + 1
    weight = torch.zeros(train_x.shape[1], classes, device=train_x.device, requires_grad=True)
    bias = torch.zeros(classes, device=train_x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=150, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(train_x @ weight + bias, train_y)
        loss = loss + 1e-3 * weight.pow(2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return float(((test_x @ weight + bias).argmax(1) == test_y).float().mean())


def fact_accuracy(texts: Sequence[str], scenes: Sequence[Scene]) -> dict[str, float]:
    """Share of captions that state each attribute right; a fact not stated is wrong."""
    right = dict.fromkeys(ATTRIBUTES, 0)
    for text, scene in zip(texts, scenes, strict=True):
        stated = parse_facts(text)
        for attribute in ATTRIBUTES:
            right[attribute] += stated.get(attribute) == getattr(scene, attribute)
    return {attribute: n / len(texts) for attribute, n in right.items()}


def majority_accuracy(train: Sequence[Scene], test: Sequence[Scene]) -> dict[str, float]:
    """Accuracy on ``test`` of always stating the most frequent value of ``train``."""
    shares = {}
    for attribute in ATTRIBUTES:
        seen = [getattr(scene, attribute) for scene in train]
        guess = max(sorted(set(seen)), key=seen.count)
        shares[attribute] = float(np.mean([getattr(s, attribute) == guess for s in test]))
    return shares


def retrieval(similarity: np.ndarray) -> tuple[float, float]:
    """R@1 of row → column for a square matrix, and the margin D.

    A tie of m at the top shares its credit 1/m. D is the diagonal minus row and column means plus
    the grand mean, all over off-diagonal entries, averaged.
    """
    n = len(similarity)
    best = similarity.max(1, keepdims=True)
    tied = similarity >= best
    r1 = float((np.diag(tied) / tied.sum(1)).mean())
    off = similarity - np.diag(np.diag(similarity))
    rows, columns = off.sum(1) / (n - 1), off.sum(0) / (n - 1)
    margin = np.diag(similarity) - rows - columns + off.sum() / (n * (n - 1))
    return r1, float(margin.mean())
