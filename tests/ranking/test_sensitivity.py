"""Orders under other metrics, against orders and Kendall's τ worked by hand."""

from __future__ import annotations

import pytest

from siglip_study.ranking.sensitivity import metric_orders, sensitivity_sentence

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
    # Three pairs; a swap turns one of them around: (2 − 1) / 3.
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


def test_a_metric_that_some_projector_lacks_is_left_out() -> None:
    assert "lacking" not in {order.metric for order in metric_orders(VALUES, "d")}


def test_the_sentence_names_who_agrees_and_who_does_not() -> None:
    def said(*metrics: str) -> str:
        chosen = {metric: VALUES[metric] for metric in ("d", *metrics)}
        return sensitivity_sentence(metric_orders(chosen, "d"), "d", {"d": "D"})

    assert said("same", "one swap") == (
        "a has the highest mean D, and the highest of every other measure: same and one swap."
    )
    assert said("same", "reverse") == (
        "a has the highest mean D, and of same; another is first by reverse (c)."
    )
    assert said("reverse").endswith("every other measure puts another first: reverse (c).")
    assert said() == ""


def test_one_projector_has_no_order() -> None:
    orders = metric_orders({"d": {"a": 1.0}, "e": {"a": 2.0}}, "d")
    assert [order.tau for order in orders] == [None, None]
    assert sensitivity_sentence(orders, "d") == ""


def test_scipy_agrees_on_ties() -> None:
    # τ-b: pairs (ab tied in e); concordant ac, bc: 2 / sqrt(3 · 2).
    found = metric_orders({"d": VALUES["d"], "e": {"a": 2.0, "b": 2.0, "c": 1.0}}, "d")
    assert found[1].tau == pytest.approx(2 / 6**0.5)
    assert found[1].top == ("a", "b") and not found[1].same_top
