"""Numbers in words: what a reader sees instead of floats, and what templates call as filters."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from siglip_study.config.axes import told_value
from siglip_study.report.language import Text

#: A figure that is nearer to 0 than this is nothing but rounding.
ROUNDING = 1e-6


def number(value: float | None, digits: int = 3) -> str:
    """A figure for a table cell: fixed decimals, an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    # A minus sign has the width of a digit; a hyphen does not.
    return text.replace("-", "−")


def visible(text: str) -> str:
    """Text of the data as a page can hold it: no control characters, no halves of characters."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "\ufffd", text)


def spoken(text: str) -> Markup:
    """The attribute that says in which language a caption is, as far as its letters tell."""
    return Markup(' lang="ko"' if re.search("[가-힣]", text) else "")


def base64(content: bytes) -> str:
    """Bytes as a ``data:`` address has them."""
    return b64encode(content).decode()


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


def probability(value: float | None) -> str:
    """A probability in whole percent, never printed as certain: ``54 %``, ``> 99 %``."""
    if value is None:
        return "–"
    if value > 0.99 or value < 0.01:
        return "> 99 %" if value > 0.99 else "< 1 %"
    return f"{100 * value:.0f} %"


def heat(value: float | None, top: float = 1.0) -> int:
    """How much of its cell a figure colours, 0 to 100; ``top`` colours all of it."""
    return round(100 * min(1.0, max(0.0, (value or 0.0) / top)))


def _with_prefix(value: float, prefixes: dict[str, float]) -> str | None:
    """``4.20 M`` with the largest prefix that fits, or nothing where the value is too small."""
    for prefix, size in prefixes.items():
        if abs(value) >= size:
            return f"{value / size:.2f} {prefix}"
    return None


def count(value: float | None) -> str:
    """A count: 4,198,400 as ``4.20 M``, 960 as ``960``; a mean of counts keeps its ``37.5``."""
    if value is None:
        return "–"
    if abs(value) >= 10_000:
        return _with_prefix(value, {"G": 1e9, "M": 1e6}) or f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0")


def flops(value: float | None) -> str:
    """FLOP with a decimal prefix: ``3.42 PFLOP``."""
    if value is None:
        return "–"
    prefixes = {"E": 1e18, "P": 1e15, "T": 1e12, "G": 1e9}
    return f"{_with_prefix(value, prefixes) or f'{value:.0f} '}FLOP"


def duration(seconds: float | None) -> Text:
    """Seconds for people: ``8.2 s``, ``4 min 05 s``, ``4 h 47 min``."""
    if seconds is None:
        return Text.same("–")
    if seconds < 60:
        return Text("{s:.1f} s", "{s:.1f}초").fill(s=seconds)
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours == 0:
        return Text("{m} min {s:02d} s", "{m}분 {s}초").fill(m=minutes, s=int(seconds % 60))
    return Text("{h} h {m:02d} min", "{h}시간 {m}분").fill(h=hours, m=minutes % 60)


def rate(value: float | None) -> str:
    """A learning rate: ``1e-3``, ``2.5e-5``."""
    if value is None:
        return "–"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def rank_interval(low: int | None, high: int | None, ranked: bool, can_rank: bool) -> Text:
    """A rank interval: ``1``, ``2–4``, ``unranked`` (gated), ``no rank`` (cannot be claimed)."""
    if not can_rank:
        return Text("no rank", "순위 없음")
    if not ranked or low is None or high is None:
        return Text("unranked", "순위 밖")
    return Text.same(str(low) if low == high else f"{low}–{high}")


def direction(higher_is_better: bool | None) -> Text:
    """The direction of a metric."""
    if higher_is_better is None:
        return Text("neither", "방향 없음")
    if higher_is_better:
        return Text("higher is better", "높을수록 좋음")
    return Text("lower is better", "낮을수록 좋음")


def value_range(low: float | None, high: float | None) -> Text:
    """The range of a metric: ``−1 to 1``, ``0 to ∞``."""
    ends = ("−∞" if low is None else f"{low:g}", "∞" if high is None else f"{high:g}")
    lower, upper = (end.replace("-", "−") for end in ends)
    return Text("{a} to {b}", "{a} ~ {b}").fill(a=lower, b=upper)


def significant(value: float | None) -> str:
    """Three significant digits: ``4.42``, ``0.0333``, ``12.3``; whole from a hundred on.

    What is within rounding of 0 is ``0.00``.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if 0 < abs(value) < ROUNDING:
        return "0.00"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:#.3g}".replace("-", "−")


def span(low: float | None, high: float | None) -> str:
    """An interval in three significant digits, or nothing where there is none."""
    return "" if low is None or high is None else f"[{significant(low)}, {significant(high)}]"


def whole_percent(share: float | None) -> str:
    """A share in whole percent: ``97 %``."""
    return "–" if share is None else f"{100 * share:.0f} %"


def size(value: float | None) -> str:
    """A count in three significant digits with a prefix: ``37.1 k``, ``205 M``, ``64``."""
    if value is None:
        return "–"
    for prefix, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= unit:
            return f"{significant(value / unit)} {prefix}"
    return significant(value)


def settings(values: str | None) -> str:
    """Values of axes, from their JSON in a table: ``r 16 · layer -2``; nothing without axes."""
    found = json.loads(values) if values else {}
    return " · ".join(told_value(key, value) for key, value in found.items())


#: Templates call these by name: ``{{ row.value|number(4) }}``.
FILTERS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        *(number, significant, visible, spoken, base64, interval, p_value, probability, heat),
        *(count, flops, duration, rate, rank_interval, span, whole_percent, size),
        settings,
    )
}
