"""Figures of points: the controls, score against diversity, quality against cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from siglip_study.ranking.gate import GateThresholds
from siglip_study.report.charts.drawing import BAD, GOOD, HEAT, LINE, MUTED, told
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
    signed,
    signs,
    with_bounds,
)  # fmt: skip
from siglip_study.report.charts.spec import (
    Channel,
    Plot,
    field,
    layered,
    marks,
    panels,
    plain,
    value,
)  # fmt: skip
from siglip_study.report.language import Text, join
from siglip_study.report.results import role_name
from siglip_study.report.wording.labels import label as say
from siglip_study.report.wording.metrics import NAMES
from siglip_study.report.words import duration, significant

#: Outcome of a control → its colour and shape.
_OUTCOMES = {"good": (GOOD, "circle"), "bad": (BAD, "cross"), "plain": (MUTED, "diamond")}


# ---- Controls.


def controls(
    canvas: Canvas, rows: Sequence[Mapping[str, Any]], ranking: Sequence[Mapping[str, Any]]
) -> Figure | None:
    """Margin of every control on one scale with the projectors, and whether it is as it must be.

    ``rows`` and ``ranking`` are the tables ``controls`` and ``ranking``.
    """
    own = [r for r in rows if r["metric"] == "standardised_margin" and r["value"] is not None]
    if not own:
        return None
    own.sort(key=lambda row: -row["value"])
    roles = Counter(row["role"] for row in own)
    texts, points = [], []
    for i, row in enumerate(own):
        outcome = {True: "good", False: "bad", None: "plain"}[row["as_expected"]]
        name = role_name(row["role"])
        if roles[row["role"]] > 1:
            name = join(": ", [name, str(row["projector"])])
        word = say(f"charts.outcome.{outcome}")
        texts += [name, word]
        value = f"{with_bounds(row['value'], row['low'], row['high'])}"
        points.append(
            {
                "row": i, "x": row["value"], "low": row["low"], "high": row["high"],
                "outcome": outcome, "word": word.en, "name": name,
                "colour": _OUTCOMES[outcome][0], "shape": _OUTCOMES[outcome][1],
                "told": told(join("", [name, f": {value}, ", word])),
            }
        )  # fmt: skip
    means = [r["standardised_margin"] for r in ranking if r["standardised_margin"] is not None]
    failed = [p["name"] for p in points if p["outcome"] == "bad"]
    tests = [p for p in points if p["outcome"] != "plain"]
    return canvas.figure(
        "controls",
        lambda width: _controls(canvas, points, texts, means, width),
        say("charts.controls.failed", names=join(", ", failed))
        if failed
        else say("charts.controls.passed", n=len(tests)),
        ("control", "margin", *bounds_at("95"), "outcome"),
        [
            (p["name"], p["x"], p["low"], p["high"], say(f"charts.outcome.{p['outcome']}"))
            for p in points
        ],
    )


def _controls(
    canvas: Canvas,
    points: Sequence[Mapping[str, Any]],
    texts: Sequence[Text],
    means: Sequence[float],
    width: int,
) -> Markup:
    wide = width == WIDE
    names = [p["name"].en for p in points]
    size = 7.2 if wide else 6.6
    right = size * max(len(p["word"]) for p in points) if wide else 10
    longest = max(max(len(p["name"].en), 1.6 * len(p["name"].ko)) for p in points)
    inner = width - 30 - size * longest - right
    rows = [{k: v for k, v in p.items() if k != "name"} for p in points]
    domain = extent([v for p in points for v in (p["x"], p["low"], p["high"])] + list(means), True)
    height = 24 * len(points)
    title = say("charts.axis.controls") if wide else say("charts.margin")
    across = partial(
        quantity, domain=domain, title=title.en, tickCount=6 if wide else 4, grid=False
    )
    x, low, y = across("x"), across("low"), row_axis(names)
    band = say("charts.projectors")
    layers = []
    if means:
        right_half = min(means) > sum(domain) / 2
        zone = [{"low": min(means), "high": max(means), "text": band.en}]
        written = {"color": MUTED, "baseline": "bottom", "align": "right" if right_half else "left"}
        side = across("high") if right_half else low
        layers += [
            marks(zone, "rect", {"fill": HEAT, "opacity": 0.13},
                  x=low, x2=field("high"), y=value(-4), y2=value(height)),
            marks(zone, "text", written, x=side, y=value(-6), text=field("text:N")),
        ]  # fmt: skip
    layers += [
        marks([{"row": i} for i in range(len(rows))], "rule", {"color": LINE}, y=y),
        marks([{"x": 0}], "rule", {"strokeDash": [3, 3]}, x=x),
        marks([r for r in rows if r["low"] is not None], "rule",
              {"strokeWidth": 3, "opacity": 0.6}, x=low, x2=field("high"), y=y,
              color=plain("colour")),
        signs(rows, 80, x=x, y=y),
    ]  # fmt: skip
    if wide:
        layers.append(
            marks(rows, "text", {"align": "left", "baseline": "middle"},
                  x=value(inner + 12), y=y, text=field("word:N"), color=plain("colour"))
        )  # fmt: skip
    chart = layered(
        layers, width=inner, height=height,
        padding={"top": 20, "left": 2, "right": right + 8, "bottom": 2},
    )  # fmt: skip
    return canvas.draw(chart, [*texts, title, band])


# ---- Score against diversity.


def diversity(
    canvas: Canvas, cells: Sequence[Mapping[str, Any]], thresholds: GateThresholds
) -> Figure | None:
    """Margin and SigLIP cosine of every run against how much its captions differ.

    The zone at the left is where the gate looks twice: captions under
    ``thresholds.min_effective_ratio`` of people's variety. ``cells`` is the table of this name
    without trainings that report one half.
    """
    known = [c for c in cells if c["effective_captions"] is not None]
    if not known:
        return None
    human = next((c["effective_captions"] for c in known if c["role"] == "references"), None)
    limit = None
    if human is not None and human >= thresholds.templated_reference:
        limit = thresholds.min_effective_ratio * human
    measures = ("siglip_cosine", "standardised_margin")
    texts = [say("charts.axis.effective"), say("charts.zone"),
             *(NAMES[m] for m in measures)]  # fmt: skip
    points: list[dict[str, Any]] = []
    for c in known:
        own = canvas.own(c["projector"])
        kind = c["role"] if own and c["role"] in ("report", "tuning") else "control"
        name = role_name(c["role"])
        texts.append(name)
        points.append({"cell": c, "projector": own, "kind": kind, "name": name})

    def drawn(width: int) -> Markup:
        side, across = (232, 2) if width == WIDE else (268, 1)
        own = [_diversity(canvas, points, m, limit, side) for m in measures]
        return canvas.draw(panels(own, across), texts)

    alike = [c for c in known if limit is not None and c["effective_captions"] < limit]
    shown_of = ("effective_captions", *measures)
    return canvas.figure(
        "diversity",
        drawn,
        say("charts.diversity.alt", n=len(alike), of=len(known)),
        ("run", "kind", "axis.effective", *(NAMES[m] for m in measures)),
        [(p["cell"]["cell"], p["name"], *(p["cell"][m] for m in shown_of)) for p in points],
    )


def _diversity(
    canvas: Canvas,
    points: Sequence[Mapping[str, Any]],
    measure: str,
    limit: float | None,
    side: float,
) -> Plot:
    rows: dict[str, list[dict[str, Any]]] = {"report": [], "tuning": [], "control": []}
    named: list[dict[str, Any]] = []
    for point in points:
        cell, label = point["cell"], point["projector"]
        if cell[measure] is None:
            continue
        what = join("", [f"{cell['projector']} · " if cell["projector"] else "", point["name"]])
        tip = join(
            "", [what, f": {significant(cell['effective_captions'])}, {significant(cell[measure])}"]
        )
        row = {"x": cell["effective_captions"], "y": cell[measure], "told": told(tip, label)}
        kind = point["kind"]
        if kind == "control":
            named.append({**row, "text": point["name"].en, "left": row["x"] / 1.04})
        look = {"colour": MUTED, "shape": "diamond"} if kind == "control" else canvas.look(label)
        rows[kind].append({**row, **look})
    domain = extent([row["y"] for own in rows.values() for row in own])
    title = say("charts.axis.effective").en
    across = partial(quantity, domain=[0, 1.04], title=title, values=[0, 0.5, 1], format="~g")
    x, y = across("x"), quantity("y", domain, NAMES[measure].en, tickCount=5)
    layers = []
    if limit is not None:
        zone = [{"low": 0, "high": limit, "text": say("charts.zone").en}]
        layers += [
            marks(zone, "rect", {"fill": BAD, "opacity": 0.09},
                  x=across("low"), x2=field("high"), y=value(0), y2=value(side)),
            marks(zone, "text", {"align": "left", "baseline": "top", "color": BAD},
                  x=value(6), y=value(6), text=field("text:N")),
        ]  # fmt: skip
    for kind, own in rows.items():
        strong = kind != "tuning"
        point = {
            "filled": strong,
            "opacity": 0.95 if strong else 0.75,
            "size": 70 if strong else 34,
        }
        layers.append(marks(own, "point", point, x=x, y=y, **signed()))
    layers += _names(named, domain, (side, side), x, y, {"color": MUTED}, 8)
    return layered(layers, width=side, height=side)


def _names(
    named: Sequence[Mapping[str, Any]],
    domain: Sequence[float],
    size: tuple[float, float],
    x: Channel,
    y: Channel,
    look: Mapping[str, Any],
    beside: int,
) -> list[Plot]:
    """Names ``beside`` points by so many pixels; of those that would cover each other the first.

    ``left`` is a point's place from left to right, in 0 … 1.
    """
    layers: list[Plot] = []
    taken: list[tuple[float, float, float]] = []
    for row in named:
        place = size[0] * row["left"]
        level = size[1] * (row["y"] - domain[0]) / (domain[1] - domain[0])
        room = 6.0 * len(row["text"]) + 10
        left = place + room < size[0]
        start, end = (place, place + room) if left else (place - room, place)
        if any(abs(level - own) < 13 and start < b and a < end for own, a, b in taken):
            continue
        taken.append((level, start, end))
        side = {"align": "left", "dx": beside} if left else {"align": "right", "dx": -beside}
        point = {key: row[key] for key in ("x", "y", "text")}
        written = {**side, "baseline": "middle", **look}
        layers.append(marks([point], "text", written, x=x, y=y, text=field("text:N")))
    return layers


# ---- Quality against cost.


def cost(canvas: Canvas, rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Margin against the time of one run, with the line of those that nothing beats in both.

    ``rows`` is the table ``ranking``.
    """
    gpu = any((row["gpu_s"] or 0) > 0 for row in rows)
    key = "gpu_s" if gpu else "wall_s"
    points = []
    for row in rows:
        seconds = (row[key] or 0.0) + (row[f"stage1_{key}"] or 0.0)
        if seconds <= 0 or row["standardised_margin"] is None:
            continue
        label = row["projector"]
        margin = f"{label}: {significant(row['standardised_margin'])}, "
        tip = told(join("", [margin, duration(seconds)]), label)
        points.append({**canvas.look(label), "x": seconds, **margin_of(row, "y"), "told": tip})
    if not points:
        return None
    front = [points[i] for i in pareto([(p["x"], p["y"]) for p in points])]
    unit = say("charts.axis.gpu" if gpu else "charts.axis.time")
    said = [
        join("", [f"{p['projector']} (", duration(p["x"]), f", {significant(p['y'])})"])
        for p in front
    ]
    return canvas.figure(
        "cost",
        lambda width: _cost(canvas, points, front, unit, width),
        say("charts.cost.alt", front=join(", ", said)),
        ("projector", unit, "margin", *bounds_at("95")),
        [(p["projector"], p["x"], p["y"], p["low"], p["high"]) for p in points],
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other beats in both, cheapest first: ``(cost, quality)``."""
    best: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not best or points[i][1] > points[best[-1]][1]:
            best.append(i)
    return best


def _cost(
    canvas: Canvas,
    points: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    unit: Text,
    width: int,
) -> Markup:
    inner, height = width - 80, 250
    end = 1.12 * max(p["x"] for p in points)
    domain = extent([v for p in points for v in (p["y"], p["low"], p["high"])])
    x = quantity("x", [0, end], unit.en, tickCount=5, grid=False)
    up = partial(quantity, domain=domain, title=say("charts.margin").en, tickCount=5)
    y = up("y")
    # The line starts at the cheapest and goes up where more time bought more margin.
    stairs = [*({"x": p["x"], "y": p["y"]} for p in front), {"x": end, "y": front[-1]["y"]}]
    dashed = {
        "interpolate": "step-after", "color": MUTED, "strokeDash": [4, 3], "strokeWidth": 1.3
    }  # fmt: skip
    layers = [
        marks(stairs, "line", dashed, x=x, y=y),
        marks([p for p in points if p["low"] is not None], "rule",
              {"strokeWidth": 2, "opacity": 0.45},
              x=x, y=up("low"), y2=field("high"), color=plain("colour")),
        signs(points, 110, x=x, y=y),
    ]  # fmt: skip
    limit = LONG if width == WIDE else SHORT
    named = [
        {**p, "text": shown(p["projector"], limit), "left": p["x"] / end}
        for p in sorted(points, key=lambda p: -p["y"])
    ]
    layers += _names(named, domain, (inner, height), x, y, {"dy": -8}, 10)
    chart = layered(layers, width=inner, height=height)
    return canvas.draw(chart, [unit, say("charts.margin")])
