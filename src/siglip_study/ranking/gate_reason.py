"""The gate's verdict as one sentence with the numbers that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def gate_reason(verdict: str, low: bool | None, numbers: Mapping[str, Any]) -> str:
    """Why the gate decided so; ``numbers`` are those of the verdict, ``low`` its low diversity."""
    margin = f"D is {numbers['mean_margin']:.4f}"
    if numbers["lower_bound"] is None:
        margin += " on one group of clips, so it has no bound"
    else:
        margin += (
            f" (one-sided bounds {numbers['lower_bound']:.4f} and {numbers['upper_bound']:.4f}, "
            f"Holm p {numbers['p_holm']:.3g})"
        )
    diversity = (
        f"effective captions are {numbers['effective_captions']:.2f} "
        f"(limit {numbers['effective_captions_limit']:.2f}), the top cluster holds "
        f"{numbers['top_cluster_share']:.0%} (limit {numbers['top_cluster_share_limit']:.0%})"
    )
    if verdict == "collapsed":
        return f"Collapsed: {diversity}, and {margin}, not shown to be above 0."
    if verdict == "grounded" and low:
        return f"Grounded though templated: {margin}, while {diversity}."
    if verdict == "grounded":
        return f"Grounded: {margin}."
    if verdict == "ungrounded":
        return (
            f"Ungrounded: {margin}, under {numbers['ungrounded_ceiling']:.4f}, "
            "a small share of what human captions reach."
        )
    return f"Undetermined: {margin}, neither shown to be above 0 nor shown to be negligible."
