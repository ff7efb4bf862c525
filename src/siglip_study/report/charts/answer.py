"""The figure of the first screen: how sure the order is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from siglip_study.report.charts.drawing import LINE, MUTED, told
from siglip_study.report.charts.figure import (
    LONG,
    SHORT,
    WIDE,
    Canvas,
    Figure,
    bounds_at,
    extent,
    margin_of,
    quantity,
    row_axis,
    shown,
    signs,
    with_bounds,
)  # fmt: skip
from siglip_study.report.charts.spec import field, layered, marks, plain, value
from siglip_study.report.language import join
from siglip_study.report.wording.labels import label as say
from siglip_study.report.words import significant

#: Pixels that a letter takes on average.
_LETTER = 6.2


def intervals(
    canvas: Canvas,
    rows: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    bars: Mapping[str, float | None],
    alpha: float,
) -> Figure:
    """Margin and its interval by projector, single seeds as rings, and what to read them by.

    ``rows`` and ``runs`` are the tables ``ranking`` and ``runs``, ``bars`` the margins where lines
    stand, by key of their label (``charts.mark.…``).
    """
    found = {row["projector"]: row for row in rows}
    means = [
        {"row": i, **canvas.look(label), **margin_of(found[label], "x")}
        for i, label in enumerate(canvas.ranked)
    ]
    for mean in means:
        mean["said"] = with_bounds(mean["x"], mean["low"], mean["high"])
        mean["told"] = told(f"{mean['projector']}: {mean['said']}", mean["projector"])
    rings = [
        {
            "row": canvas.ranked.index(run["projector"]),
            **canvas.look(run["projector"]),
            "x": run["standardised_margin"],
            "told": told(
                say("charts.tip.seed", projector=run["projector"], seed=run["seed"],
                    value=significant(run["standardised_margin"])),
                run["projector"],
            ),
        }
        for run in runs
        if run["projector"] in canvas.ranked and run["standardised_margin"] is not None
    ]  # fmt: skip
    for mean in means:
        own = [significant(ring["x"]) for ring in rings if ring["row"] == mean["row"]]
        mean["seeds"] = ", ".join(own)
    lines: list[dict[str, Any]] = [
        {"x": at, "text": say(f"charts.mark.{key}")} for key, at in bars.items() if at is not None
    ]
    percent = f"{100 * (1 - alpha):g}"
    return canvas.figure(
        "intervals",
        lambda width: _drawn(canvas, means, rings, lines, percent, width),
        say(
            "charts.intervals.alt",
            rows="; ".join(f"{mean['projector']} {mean['said']}" for mean in means),
            lines=join("; ", [join(" ", [line["text"], significant(line["x"])]) for line in lines]),
        ),
        ("projector", "margin", *bounds_at(percent), "seeds"),
        [
            *((m["projector"], m["x"], m["low"], m["high"], m["seeds"]) for m in means),
            *((line["text"], line["x"], None, None, None) for line in lines),
        ],
    )


def _drawn(
    canvas: Canvas,
    means: Sequence[Mapping[str, Any]],
    rings: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
    percent: str,
    width: int,
) -> Markup:
    n = max(1, len(means))
    step = max(22, min(40, 190 // n))
    wide = width == WIDE
    names = [shown(label, LONG if wide else SHORT) for label in canvas.ranked]
    inner = width - 30 - 7.2 * max((len(name) for name in names), default=0)
    values = [m[key] for m in means for key in ("x", "low", "high")]
    domain = extent([*values, *(r["x"] for r in rings), *(line["x"] for line in lines)], zero=True)
    title = say("charts.axis.margin", percent=percent) if wide else say("charts.margin")
    across = partial(
        quantity, domain=domain, title=title.en, tickCount=6 if wide else 4, grid=False
    )
    x, y = across("x"), row_axis(names)
    # A mean stands on its bar, its single seeds below: neither hides the other.
    below = value(0.5 * step + min(9, 0.3 * step))
    placed, n_rows = _places(lines, domain, inner)
    layers = [
        marks([{"row": i} for i in range(n)], "rule", {"color": LINE}, y=y),
        marks(placed, "rule", {"strokeDash": [3, 3], "strokeWidth": 1.2},
              x=x, y=value(-4), y2=value(n * step)),
        # Without an interval, as with one group of clips, a point stands alone.
        marks([m for m in means if m["low"] is not None], "bar",
              {"height": max(7, step * 0.24), "opacity": 0.32, "cornerRadius": 3},
              y=y, x=across("low"), x2=field("high"), color=plain("colour")),
        marks(rings, "point", {"filled": False, "opacity": 1, "size": 26, "strokeWidth": 1.5},
              y=y, yOffset=below, x=x, color=plain("colour")),
        signs(means, min(130, 4.4 * step), y=y, x=x),
    ]  # fmt: skip
    for line in placed:
        above = {"align": line["align"], "baseline": "bottom", "color": MUTED}
        level = value(-8 - 14 * line["level"])
        layers.append(marks([line], "text", above, x=x, y=level, text=field("label:N")))
    chart = layered(
        layers, width=inner, height=n * step,
        padding={"top": 4 + 16 * n_rows, "left": 2, "right": 14, "bottom": 2},
    )  # fmt: skip
    return canvas.draw(chart, [title, *(line["text"] for line in lines)])


def _places(
    lines: Sequence[Mapping[str, Any]], domain: Sequence[float], width: float
) -> tuple[list[dict[str, Any]], int]:
    """Names of lines above them, one over the other where they would touch: rows, and how many."""
    placed: list[dict[str, Any]] = []
    ends: list[float] = []
    for line in sorted(lines, key=lambda own: own["x"]):
        label = line["text"]
        place = width * (line["x"] - domain[0]) / (domain[1] - domain[0])
        room = _LETTER * max(len(label.en), 1.7 * len(label.ko))
        align, start = "center", place - room / 2
        if start < -60:
            align, start = "left", place
        elif start + room > width + 12:
            align, start = "right", place - room
        level = next((i for i, end in enumerate(ends) if end + 8 < start), len(ends))
        ends[level : level + 1] = [start + room]
        placed.append({"x": line["x"], "label": label.en, "align": align, "level": level})
    return placed, len(ends)
