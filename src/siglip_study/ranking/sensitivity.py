"""Would another measure have put the projectors in another order?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from siglip_study.ranking.wording import listed


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
        known = {label: found.get(label) for label in labels}
        if any(value is None for value in known.values()) or not known:
            continue
        own = {label: float(value) for label, value in known.items() if value is not None}
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


def sensitivity_sentence(
    orders: list[MetricOrder], lead: str, names: Mapping[str, str] | None = None
) -> str:
    """Which other metrics agree on the first place, and which do not."""
    named = names or {}
    by_metric = {order.metric: order for order in orders}
    if lead not in by_metric or len(orders) < 2 or len(by_metric[lead].values) < 2:
        return ""
    first = by_metric[lead]
    others = [order for order in orders if order.metric != lead]
    agree = [named.get(o.metric, o.metric) for o in others if o.same_top]
    differ = [
        f"{named.get(o.metric, o.metric)} ({listed(o.top)})" for o in others if not o.same_top
    ]
    has = "have" if len(first.top) > 1 else "has"
    text = f"{listed(first.top)} {has} the highest mean {named.get(lead, lead)}"
    if not differ:
        return f"{text}, and the highest of every other measure: {listed(agree)}."
    if not agree:
        return f"{text}; every other measure puts another first: {listed(differ)}."
    return f"{text}, and of {listed(agree)}; another is first by {listed(differ)}."
