"""The gate's verdict as one sentence with the numbers that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Stamp of captions that fit clips of their category, and no clip of it better than another.
CATEGORY_ONLY = "tells categories apart, not clips"


def gate_reason(verdict: str, low: bool | None, numbers: Mapping[str, Any]) -> str:
    """Why the gate decided so; ``numbers`` are those of the verdict, ``low`` its low diversity."""
    margin = _margin(numbers)
    diversity = (
        f"effective captions are {numbers['effective_captions']:.2f} "
        f"(limit {numbers['effective_captions_limit']:.2f}), the top cluster holds "
        f"{numbers['top_cluster_share']:.0%} (limit {numbers['top_cluster_share_limit']:.0%})"
    )
    if verdict == "collapsed" and numbers["category_only"]:
        return f"Collapsed: {diversity}, and {margin}: not shown to be above 0 within a category."
    if verdict == "collapsed":
        return f"Collapsed: {diversity}, and {margin}, not shown to be above 0."
    if verdict == "grounded" and low:
        return f"Grounded though templated: {margin}, while {diversity}."
    if verdict == "grounded":
        return f"Grounded: {margin}."
    if verdict == "category_only":
        return f"Category only: {margin}: above 0 over all clips, not shown to be so within one."
    if verdict == "ungrounded":
        return (
            f"Ungrounded: {margin}; D is under {_figure(numbers['ungrounded_ceiling'])}, "
            "a small share of what human captions reach."
        )
    return f"Undetermined: {margin}, neither shown to be above 0 nor shown to be negligible."


def _margin(numbers: Mapping[str, Any]) -> str:
    """D with its bounds, and within category where asked for; which of them decided."""
    text = f"D is {_figure(numbers['mean_margin'])}"
    if numbers["lower_bound"] is None:
        return text + " on one group of clips, so it has no bound"
    bounds = (
        f"one-sided bounds {_figure(numbers['lower_bound'])} and {_figure(numbers['upper_bound'])}"
    )
    p = f"Holm p {numbers['p_holm']:.3g}"
    if numbers["mean_margin_within"] is None:
        return f"{text} ({bounds}, {p})"
    within = f"{_figure(numbers['mean_margin_within'])} within a category"
    if numbers["lower_bound_within"] is None:
        within += " (one group of clips, no bound)"
    else:
        low, high = numbers["lower_bound_within"], numbers["upper_bound_within"]
        within += f" ({_figure(low)} and {_figure(high)})"
    return f"{text} ({bounds}) and {within}, {p}, decided by {numbers['decided_by']}"


def _figure(value: float) -> str:
    text = f"{value:.4f}"
    return text.removeprefix("-") if float(text) == 0 else text
