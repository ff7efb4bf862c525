"""Numbers in words: what a reader sees instead of floats."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 3) -> str:
    """A figure for a table cell: fixed decimals, an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    # A minus sign has the width of a digit; a hyphen does not.
    return text.replace("-", "−")


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """``[low, high]``, or nothing where no interval was computed."""
    if low is None or high is None:
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def p_value(value: float | None) -> str:
    """A p value, never printed as zero."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(value: float | None) -> str:
    """A count: 4,198,400 as ``4.20 M``, 960 as ``960``; a mean of counts keeps its ``37.5``."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.2f} {unit}"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0")


def flops(value: float | None) -> str:
    """FLOP with a decimal prefix: ``3.42 PFLOP``."""
    if value is None:
        return "–"
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if value >= size:
            return f"{value / size:.2f} {unit}FLOP"
    return f"{value:.0f} FLOP"


def duration(seconds: float | None) -> str:
    """Seconds for people: ``8.2 s``, ``4 min 05 s``, ``4 h 47 min``."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def rate(value: float | None) -> str:
    """A learning rate: ``1e-3``, ``2.5e-5``."""
    if value is None:
        return "–"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def rank_interval(low: int | None, high: int | None, ranked: bool, can_rank: bool) -> str:
    """A rank interval: ``1``, ``2–4``, ``unranked`` (gated), ``no rank`` (cannot be claimed)."""
    if not can_rank:
        return "no rank"
    if not ranked or low is None or high is None:
        return "unranked"
    return str(low) if low == high else f"{low}–{high}"
