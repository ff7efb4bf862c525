"""Figures of points: the controls, score against diversity, quality against cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from siglip_study.ranking.gate import GateThresholds
from siglip_study.report.charts.drawing import BAD, GOOD, HEAT, LINE, MUTED, told
from siglip_study.report.charts.figure import (
    LONG,
    NARROW,
    SHORT,
    WIDE,
    Canvas,
    Figure,
    extent,
    row_axis,
    shown,
    signed,
    with_bounds,
)  # fmt: skip
from siglip_study.report.charts.spec import (
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

    Args:
        canvas: signs and order.
        rows: the ``controls`` table.
        ranking: the ``ranking`` table.
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
    drawn = [_controls(canvas, points, texts, means, width) for width in (WIDE, NARROW)]
    failed = [p["name"] for p in points if p["outcome"] == "bad"]
    tests = [p for p in points if p["outcome"] != "plain"]
    alt_text = (
        say("charts.controls.failed", names=join(", ", failed))
        if failed
        else say("charts.controls.passed", n=len(tests))
    )
    return Figure(
        name="controls",
        title=say("charts.controls.title"),
        alt=alt_text,
        wide=drawn[0],
        narrow=drawn[1],
        columns=(
            say("charts.control"), say("charts.margin"), say("charts.low", percent="95"),
            say("charts.high", percent="95"), say("charts.outcome"),
        ),
        rows=tuple(
            (p["name"], p["x"], p["low"], p["high"], say(f"charts.outcome.{p['outcome']}"))
            for p in points
        ),
    )  # fmt: skip


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
    across = {
        "scale": {"domain": domain, "nice": False},
        "axis": {"title": title.en, "tickCount": 6 if wide else 4, "grid": False},
    }
    x, low, y = field("x:Q", **across), field("low:Q", **across), row_axis(names)
    band = say("charts.projectors")
    layers = []
    if means:
        right_half = min(means) > sum(domain) / 2
        zone = [{"low": min(means), "high": max(means), "text": band.en}]
        written = {"color": MUTED, "baseline": "bottom", "align": "right" if right_half else "left"}
        side = field("high:Q" if right_half else "low:Q", **across)
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
        marks(rows, "point", {"filled": True, "size": 80, "opacity": 1}, x=x, y=y, **signed()),
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
    ``thresholds.min_effective_ratio`` of people's variety.

    Args:
        canvas: signs and order.
        cells: the ``cells`` table without trainings that report one half.
        thresholds: of the gate.
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
        own = c["projector"] if c["projector"] in canvas.marks else None
        kind = c["role"] if own and c["role"] in ("report", "tuning") else "control"
        name = role_name(c["role"])
        texts.append(name)
        points.append({"cell": c, "projector": own, "kind": kind, "name": name})
    drawn = []
    for width in (WIDE, NARROW):
        side = 232 if width == WIDE else 268
        own = [_diversity(canvas, points, m, limit, side) for m in measures]
        drawn.append(canvas.draw(panels(own, 2 if width == WIDE else 1), texts))
    alike = [c for c in known if limit is not None and c["effective_captions"] < limit]
    return Figure(
        name="diversity",
        title=say("charts.diversity.title"),
        alt=say("charts.diversity.alt", n=len(alike), of=len(known)),
        wide=drawn[0],
        narrow=drawn[1],
        columns=(
            say("charts.run"), say("charts.kind"), say("charts.axis.effective"),
            *(NAMES[m] for m in measures),
        ),
        rows=tuple(
            (
                p["cell"]["cell"], p["name"], p["cell"]["effective_captions"],
                *(p["cell"][m] for m in measures),
            )
            for p in points
        ),
    )  # fmt: skip


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
    across = {
        "scale": {"domain": [0, 1.04], "nice": False},
        "axis": {"title": say("charts.axis.effective").en, "values": [0, 0.5, 1], "format": "~g"},
    }
    x = field("x:Q", **across)
    y = field("y:Q", scale={"domain": domain, "nice": False},
              axis={"title": NAMES[measure].en, "tickCount": 5})  # fmt: skip
    layers = []
    if limit is not None:
        zone = [{"low": 0, "high": limit, "text": say("charts.zone").en}]
        layers += [
            marks(zone, "rect", {"fill": BAD, "opacity": 0.09},
                  x=field("low:Q", **across), x2=field("high"), y=value(0), y2=value(side)),
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
    for row in _apart(named, domain, side, side):
        left = row["align"] == "left"
        written = {
            "align": row["align"], "dx": 8 if left else -8, "color": MUTED, "baseline": "middle"
        }  # fmt: skip
        only_place = {key: row[key] for key in ("x", "y", "text")}
        layers.append(marks([only_place], "text", written, x=x, y=y, text=field("text:N")))
    return layered(layers, width=side, height=side)


def _apart(
    named: Sequence[Mapping[str, Any]], domain: Sequence[float], width: float, height: float
) -> list[dict[str, Any]]:
    """Names of points, of those that would cover each other the first alone.

    ``left`` is a point's place from left to right, in 0 … 1.
    """
    placed: list[dict[str, Any]] = []
    taken: list[tuple[float, float, float]] = []
    for row in named:
        x = width * row["left"]
        y = height * (row["y"] - domain[0]) / (domain[1] - domain[0])
        room = 6.0 * len(row["text"]) + 10
        align = "left" if x + room < width else "right"
        start, end = (x, x + room) if align == "left" else (x - room, x)
        if any(abs(y - own) < 13 and start < right and left < end for own, left, right in taken):
            continue
        taken.append((y, start, end))
        placed.append({**row, "align": align})
    return placed


# ---- Quality against cost.


def cost(canvas: Canvas, rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Margin against the time of one run, with the line of those that nothing beats in both.

    Args:
        canvas: signs and order.
        rows: the ``ranking`` table.
    """
    gpu = any((row["gpu_s"] or 0) > 0 for row in rows)
    key = "gpu_s" if gpu else "wall_s"
    points = []
    for row in rows:
        seconds = (row[key] or 0.0) + (row[f"stage1_{key}"] or 0.0)
        if seconds <= 0 or row["standardised_margin"] is None:
            continue
        margin = f"{significant(row['standardised_margin'])}"
        tip = join("", [f"{row['projector']}: {margin}, ", duration(seconds)])
        points.append(
            {
                **canvas.look(row["projector"]), "x": seconds, "y": row["standardised_margin"],
                "low": row["standardised_margin_low"], "high": row["standardised_margin_high"],
                "told": told(tip, row["projector"]),
            }
        )  # fmt: skip
    if not points:
        return None
    best = pareto([(p["x"], p["y"]) for p in points])
    front = [points[i] for i in best]
    unit = say("charts.axis.gpu" if gpu else "charts.axis.time")
    drawn = [_cost(canvas, points, front, unit, width) for width in (WIDE, NARROW)]
    return Figure(
        name="cost",
        title=say("charts.cost.title"),
        alt=say("charts.cost.alt", front=join(", ", [
            join("", [f"{p['projector']} (", duration(p["x"]), f", {significant(p['y'])})"])
            for p in front
        ])),
        wide=drawn[0],
        narrow=drawn[1],
        columns=(
            say("charts.projector"), unit, say("charts.margin"),
            say("charts.low", percent="95"), say("charts.high", percent="95"),
        ),
        rows=tuple((p["projector"], p["x"], p["y"], p["low"], p["high"]) for p in points),
    )  # fmt: skip


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
    x = field("x:Q", scale={"domain": [0, end], "nice": False},
              axis={"title": unit.en, "tickCount": 5, "grid": False})  # fmt: skip
    up = {
        "scale": {"domain": domain, "nice": False},
        "axis": {"title": say("charts.margin").en, "tickCount": 5},
    }
    y = field("y:Q", **up)
    # The line starts at the cheapest and goes up where more time bought more margin.
    stairs = [*({"x": p["x"], "y": p["y"]} for p in front), {"x": end, "y": front[-1]["y"]}]
    dashed = {
        "interpolate": "step-after", "color": MUTED, "strokeDash": [4, 3], "strokeWidth": 1.3
    }  # fmt: skip
    layers = [
        marks(stairs, "line", dashed, x=x, y=y),
        marks([p for p in points if p["low"] is not None], "rule",
              {"strokeWidth": 2, "opacity": 0.45},
              x=x, y=field("low:Q", **up), y2=field("high"), color=plain("colour")),
        marks(points, "point", {"filled": True, "size": 110, "opacity": 1}, x=x, y=y, **signed()),
    ]  # fmt: skip
    limit = LONG if width == WIDE else SHORT
    named = [
        {**p, "text": shown(p["projector"], limit), "left": p["x"] / end}
        for p in sorted(points, key=lambda p: -p["y"])
    ]
    for row in _apart(named, domain, inner, height):
        written = {
            "align": row["align"], "dx": 10 if row["align"] == "left" else -10, "dy": -8,
            "baseline": "middle",
        }  # fmt: skip
        only_place = {key: row[key] for key in ("x", "y", "text")}
        layers.append(marks([only_place], "text", written, x=x, y=y, text=field("text:N")))
    chart = layered(layers, width=inner, height=height)
    return canvas.draw(chart, [unit, say("charts.margin")])
