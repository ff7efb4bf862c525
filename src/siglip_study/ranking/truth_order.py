"""The order of the known facts, held against the order that D claims: the demo's last word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def facts_score(captions: Sequence[str], facts: Sequence[Mapping[str, str]]) -> np.ndarray:
    """What each clip adds to the mean κ over attributes, ``[N]``: its mean is that κ.

    ``κ = mean over attributes of (accuracy − majority) / (1 − majority)``, so a clip adds the same
    with "right" in accuracy's place. Attributes of one value only tell nothing and are left out.
    """
    from siglip_study.demo.facts import parse_facts

    said = [parse_facts(caption) for caption in captions]
    columns = []
    for attribute in facts[0]:
        true = [row[attribute] for row in facts]
        majority = max(true.count(value) for value in set(true)) / len(true)
        if majority < 1:
            right = np.array([s.get(attribute) == t for s, t in zip(said, true, strict=True)])
            columns.append((right - majority) / (1 - majority))
    return np.mean(columns, axis=0) if columns else np.zeros(len(facts))


@dataclass(frozen=True)
class TruthOrder:
    """Whether D contradicts the truth, pair by pair.

    ``told`` are the pairs (better, worse) whose order of κ is significant; of these ``agree`` are
    ordered alike by a significant D, ``contradict`` the other way round, ``reversed_only`` the
    other way round but not significantly.
    """

    n_pairs: int
    told: tuple[tuple[str, str], ...]
    agree: tuple[tuple[str, str], ...]
    contradict: tuple[tuple[str, str], ...]
    reversed_only: tuple[tuple[str, str], ...]
    sentence: str


def check_order(
    kappas: Mapping[str, np.ndarray], margins: Sequence[Mapping[str, Any]], alpha: float = 0.05
) -> TruthOrder:
    """Hold the order that D claims against the order of the facts.

    Args:
        kappas: projector → :func:`facts_score` averaged within groups, ``[S, G]``.
        margins: the tested pairs of D: ``a``, ``b``, ``difference`` (a − b), ``p_holm``.
        alpha: level, after Holm.
    """
    from siglip_study.ranking.pairs import pair_tests

    by_margin = {}
    for pair in margins:
        significant = pair["p_holm"] is not None and pair["p_holm"] <= alpha
        by_margin[pair["a"], pair["b"]] = (pair["difference"], significant)
        by_margin[pair["b"], pair["a"]] = (-pair["difference"], significant)
    told: list[tuple[str, str]] = []
    agree: list[tuple[str, str]] = []
    contradict: list[tuple[str, str]] = []
    turned: list[tuple[str, str]] = []
    tests = pair_tests(kappas, alpha)
    for test in tests:
        if not test.significant:
            continue
        order = (test.a, test.b) if test.difference > 0 else (test.b, test.a)
        told.append(order)
        difference, significant = by_margin[order]
        if significant:
            (agree if difference > 0 else contradict).append(order)
        elif difference < 0:
            turned.append(order)
    return TruthOrder(
        len(tests),
        tuple(told),
        tuple(agree),
        tuple(contradict),
        tuple(turned),
        _order_sentence(len(tests), told, agree, contradict, turned),
    )


def _order_sentence(
    n_pairs: int,
    told: list[tuple[str, str]],
    agree: list[tuple[str, str]],
    contradict: list[tuple[str, str]],
    turned: list[tuple[str, str]],
) -> str:
    if not told:
        none = f"The facts (mean κ) tell none of {n_pairs} pairs of projectors apart"
        return f"{none}, and so contradict nothing."
    found = f"The facts (mean κ) tell {len(told)} of {n_pairs} pairs of projectors apart"
    if contradict:
        pairs = "; ".join(f"{better} knows more facts than {worse}" for better, worse in contradict)
        return f"D CONTRADICTS THE TRUTH. {found}, and D claims the opposite order where {pairs}."
    rest = len(told) - len(agree) - len(turned)
    parts = [f"D orders {len(agree)} of these the same way"]
    if rest:
        parts.append(f"leans the same way on {rest}")
    if turned:
        pairs = "; ".join(f"{better} over {worse}" for better, worse in turned)
        parts.append(f"leans the other way, within its error, on {len(turned)} ({pairs})")
    return f"{found}; {', '.join(parts)}, and contradicts none."
