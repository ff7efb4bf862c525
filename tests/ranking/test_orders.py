"""Orders under other metrics, against orders and Kendall's τ worked by hand."""

from __future__ import annotations

import pytest

from siglip_study.ranking.orders import metric_orders

VALUES = {
    "d": {"a": 0.4, "b": 0.3, "c": 0.2},
    "same": {"a": 9.0, "b": 2.0, "c": 1.0},
    "one swap": {"a": 3.0, "b": 1.0, "c": 2.0},
    "reverse": {"a": 1.0, "b": 2.0, "c": 3.0},
    "flat": {"a": 1.0, "b": 1.0, "c": 1.0},
    "lacking": {"a": 1.0, "b": None, "c": 3.0},
}


def test_orders_by_hand() -> None:
    found = {order.metric: order for order in metric_orders(VALUES, "d")}
    # "lacking" is left out. Three pairs; a swap turns one of them around: (2 − 1) / 3.
    taus = {metric: order.tau for metric, order in found.items()}
    assert taus == {
        "d": pytest.approx(1),
        "same": pytest.approx(1),
        "one swap": pytest.approx(1 / 3),
        "reverse": pytest.approx(-1),
        "flat": None,
    }
    assert found["one swap"].ranks == {"a": 1, "c": 2, "b": 3}
    assert found["flat"].ranks == {"a": 1, "b": 1, "c": 1}
    assert [m for m, order in found.items() if order.same_top] == ["d", "same", "one swap"]
    alone = metric_orders({"d": {"a": 1.0}, "e": {"a": 2.0}}, "d")
    assert [order.tau for order in alone] == [None, None]


def test_scipy_agrees_on_ties() -> None:
    # τ-b: pairs (ab tied in e); concordant ac, bc: 2 / sqrt(3 · 2).
    found = metric_orders({"d": VALUES["d"], "e": {"a": 2.0, "b": 2.0, "c": 1.0}}, "d")
    assert found[1].tau == pytest.approx(2 / 6**0.5)
    assert found[1].top == ("a", "b") and not found[1].same_top
