"""Numbers and verdicts in words: what a reader sees instead of keys and floats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from siglip_study.ranking.gate_reason import CATEGORY_ONLY

GATES: dict[str, str] = {
    "grounded": "Grounded",
    "ungrounded": "Ungrounded",
    "undetermined": "Undetermined",
    "category_only": "Category only",
    "collapsed": "Collapsed",
}

_REASONS: dict[str, str] = {
    "grounded": "its captions fit their own clip better than other clips",
    "ungrounded": "its captions fit their own clip no better than other clips",
    "undetermined": "the data cannot tell whether its captions follow the clip",
    "category_only": "its captions tell categories apart; that they tell clips of one category "
    "apart is not shown",
    "collapsed": "nearly the same caption for every clip, and no tie to the clip",
}

#: What the halves of one held-out split are called, by the half that chose.
HALVES: dict[str, str] = {
    "selection": "half A, choosing for half B",
    "report": "half B, choosing for half A",
}

STAMPS: dict[str, str] = {
    "templated": "templated: grounded, but many captions are near-copies of each other",
    "clips only": "one seed: the interval carries clips only",
}


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


def sentence(text: str | None) -> str:
    """A clause as a sentence: a capital at its start, one full stop at its end."""
    clause = (text or "").strip().rstrip(".")
    return f"{clause[:1].upper()}{clause[1:]}." if clause else ""


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


def rank(low: int | None, high: int | None, ranked: bool, can_rank: bool) -> str:
    """A rank interval: ``1``, ``2–4``, ``unranked`` (gated), ``no rank`` (cannot be claimed)."""
    if not can_rank:
        return "no rank"
    if not ranked or low is None or high is None:
        return "unranked"
    return str(low) if low == high else f"{low}–{high}"


def gate_reason(entry: Mapping[str, Any]) -> str:
    """The gate's sentence on a projector of ``ranking.json``, led by what it means."""
    meaning = _REASONS.get(entry["gate"], str(entry["gate"]))
    if entry["gate"] == "collapsed" and CATEGORY_ONLY in (entry.get("stamps") or []):
        meaning = "a few captions for all clips, which tell categories apart and no more"
    meaning = meaning[:1].upper() + meaning[1:] + "."
    figures = str(entry.get("gate_reason") or "")
    # The verdict's own name stands beside it already.
    figures = figures.split(": ", 1)[-1] if ": " in figures else figures
    return f"{meaning} {figures[:1].upper()}{figures[1:]}".strip()
