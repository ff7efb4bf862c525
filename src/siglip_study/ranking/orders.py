"""Other orders of the projectors than the one that D claims: by other metrics, by known facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.ranking.pairs import PairTest, pair_tests

# ---- Would another metric have put the projectors in another order?


@dataclass(frozen=True)
class MetricOrder:
    """The projectors under one metric.

    ``ranks`` follow the means (1 is best; equal means share the better rank) and are no claim.
    ``same_top`` says whether the metric's best are the leading metric's best; ``tau`` is Kendall's
    τ-b between the two orders (Kendall 1945), ``None`` where one of them does not vary.
    """

    metric: str
    values: dict[str, float]
    ranks: dict[str, int]
    top: tuple[str, ...]
    same_top: bool
    tau: float | None


def metric_orders(values: Mapping[str, Mapping[str, float | None]], lead: str) -> list[MetricOrder]:
    """Order the projectors under each metric and compare it with the leading metric's order.

    Args:
        values: metric → projector → mean over its report seeds, higher being better. A metric that
            some projector lacks is left out: an order of others would be compared.
        lead: the metric that ranks; must be among ``values`` and known for every projector.
    """
    labels = [label for label, value in values[lead].items() if value is not None]
    leading = {label: float(values[lead][label] or 0.0) for label in labels}
    top = _top(leading)
    orders = []
    for metric, found in values.items():
        own = {label: float(v) for label in labels if (v := found.get(label)) is not None}
        if not own or len(own) < len(labels):
            continue
        ranks = {label: 1 + sum(v > own[label] for v in own.values()) for label in labels}
        orders.append(
            MetricOrder(metric, own, ranks, _top(own), _top(own) == top, _tau(leading, own))
        )
    return orders


def _top(values: Mapping[str, float]) -> tuple[str, ...]:
    best = max(values.values(), default=0.0)
    return tuple(sorted(label for label, value in values.items() if value == best))


def _tau(a: Mapping[str, float], b: Mapping[str, float]) -> float | None:
    from scipy.stats import kendalltau

    if len(set(a.values())) < 2 or len(set(b.values())) < 2:
        return None
    return float(kendalltau(list(a.values()), [b[label] for label in a]).statistic)


# ---- The order of the known facts, held against the order that D claims: the demo's last word.


def facts_score(
    captions: Sequence[str],
    facts: Sequence[Mapping[str, str]],
    attributes: Sequence[str] | None = None,
) -> np.ndarray:
    """What each clip adds to the mean κ over attributes (None: all), ``[N]``: its mean is that κ.

    ``κ = mean over attributes of (accuracy − majority) / (1 − majority)``, so a clip adds the same
    with "right" in accuracy's place. Attributes of one value only tell nothing and are left out.
    """
    from siglip_study.demo.facts import parse_facts

    said = [parse_facts(caption) for caption in captions]
    columns = []
    for attribute in attributes or facts[0]:
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


def check_order(
    kappas: Mapping[str, np.ndarray], margins: Sequence[PairTest], alpha: float = 0.05
) -> TruthOrder:
    """Hold the order that D claims against the order of the facts.

    ``kappas`` are projector → :func:`facts_score` averaged within groups, ``[S, G]``, ``margins``
    the tested pairs of D.
    """
    by_margin = {}
    for pair in margins:
        by_margin[pair.a, pair.b] = (pair.difference, pair.significant)
        by_margin[pair.b, pair.a] = (-pair.difference, pair.significant)
    tests = pair_tests(kappas, alpha)
    told = [(t.a, t.b) if t.difference > 0 else (t.b, t.a) for t in tests if t.significant]
    agree: list[tuple[str, str]] = []
    contradict: list[tuple[str, str]] = []
    turned: list[tuple[str, str]] = []
    for order in told:
        difference, significant = by_margin[order]
        if significant:
            (agree if difference > 0 else contradict).append(order)
        elif difference < 0:
            turned.append(order)
    return TruthOrder(len(tests), tuple(told), tuple(agree), tuple(contradict), tuple(turned))
