"""Figures in squares: pairs of projectors, places by measure, facts by attribute, tuning grids."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from siglip_study.report import words
from siglip_study.report.charts.drawing import CHOSEN, HEAT, INK, LINE, SMALL, told
from siglip_study.report.charts.figure import (
    HEADING,
    LONG,
    NARROW,
    SHORT,
    WIDE,
    Canvas,
    Figure,
    Value,
    row_axis,
    shown,
    signed,
    with_bounds,
)  # fmt: skip
from siglip_study.report.charts.spec import Plot, field, layered, marks, panels, value
from siglip_study.report.evidence import PairView
from siglip_study.report.language import Text, as_text, join
from siglip_study.report.results import role_name
from siglip_study.report.wording.labels import LABELS
from siglip_study.report.wording.labels import label as say
from siglip_study.report.wording.metrics import NAMES
from siglip_study.report.words import number, significant


@dataclass(frozen=True)
class Square:
    """One square: ``heat`` within 0 … 1 colours it, ``strong`` prints its text bold."""

    row: int
    column: int
    text: str
    heat: float
    tip: str | Text
    projector: str | None = None
    strong: bool = False


def squares(
    canvas: Canvas,
    found: Sequence[Square],
    names: Sequence[str],
    columns: Sequence[str | Text],
    width: int,
    signs: Mapping[int, str] | None = None,
    upright: bool = False,
    most: float = 92,
    frames: Collection[tuple[int, int]] = (),
    heading: Sequence[Plot] = (),
) -> Plot:
    """A chart of squares, its rows named at the left and its columns above.

    Args:
        canvas: signs of the projectors.
        found: the squares.
        names: of the rows.
        columns: of the columns.
        width: of the whole drawing, in pixels.
        signs: row → projector whose sign stands beside the row's name.
        upright: names of columns are turned, for narrow squares.
        most: widest square, in pixels.
        frames: row and column of squares with a frame.
        heading: marks above the squares.
    """
    label = (28 if signs else 12) + 7.1 * max((len(name) for name in names), default=0)
    cell = max(16.0, min(most, (width - label) / max(1, len(columns))))
    size = 28 if cell >= 40 else 24
    texts = json.dumps([c if isinstance(c, str) else c.en for c in columns], ensure_ascii=True)
    axis = {
        "orient": "top", "labelExpr": f"{texts}[datum.value]", "title": None, "labelLimit": 0,
        "labelAngle": -90 if upright else 0, "labelAlign": "left" if upright else "center",
        "labelBaseline": "middle" if upright else "bottom", "grid": False,
        "labelFontSize": SMALL if cell >= 80 else SMALL - 1,
    }  # fmt: skip
    x = field("column:O", axis=axis, scale={"domain": list(range(len(columns)))})
    y = row_axis(names, padding=24 if signs else 8)
    rows = [
        {
            "row": s.row, "column": s.column, "text": s.text, "strong": s.strong,
            "heat": 0.55 * min(1.0, max(0.0, s.heat)), "told": told(s.tip, s.projector),
        }
        for s in found
    ]  # fmt: skip
    layers = [
        marks(rows, "rect", {"fill": HEAT, "stroke": LINE, "strokeWidth": 1},
              x=x, y=y, fillOpacity={"field": "heat", "type": "quantitative", "scale": None})
    ]  # fmt: skip
    for strong in (False, True):
        own = [row for row in rows if row["strong"] == strong and row["text"]]
        written = {
            "color": INK, "fontSize": 9.5 if cell < 34 else SMALL + 0.5,
            "fontWeight": 700 if strong else 400,
        }  # fmt: skip
        layers.append(marks(own, "text", written, x=x, y=y, text=field("text:N")))
    framed = [row for row in rows if (row["row"], row["column"]) in frames]
    if framed:
        frame = {"fill": None, "stroke": CHOSEN, "strokeWidth": 2.5, "cornerRadius": 2}
        layers.append(marks(framed, "rect", frame, x=x, y=y))
    if signs:
        own = [
            {"row": row, "told": told("", label), **canvas.look(label)}
            for row, label in signs.items()
        ]
        point = {"filled": True, "opacity": 1, "size": 55}
        layers.append(marks(own, "point", point, x=value(-13), y=y, **signed()))
    layers += heading
    return layered(layers, width=cell * len(columns), height=size * len(names))


def both(
    canvas: Canvas,
    found: Sequence[Square],
    names: Sequence[str | Text],
    columns: Sequence[str | Text],
    texts: Sequence[Text],
    signs: Mapping[int, str] | None,
    upright: bool = False,
    short: Sequence[Square] | None = None,
) -> tuple[Markup, Markup]:
    """The wide and the narrow drawing, the latter with squares of its own if given."""
    drawn = []
    for width, limit, own in ((WIDE, LONG, found), (NARROW, SHORT, short or found)):
        cut = [Text(*(shown(words, limit) for words in (name.en, name.ko)))
               for name in map(as_text, names)]  # fmt: skip
        turned = width == NARROW and upright
        labels = [name.en for name in cut]
        chart = squares(canvas, own, labels, columns, width, signs, turned)
        drawn.append(canvas.draw(chart, [*texts, *cut]))
    return drawn[0], drawn[1]


# ---- Pairs.


def pair_matrix(canvas: Canvas, views: Sequence[PairView]) -> Figure | None:
    """Whose mean is higher, by how much, and whether that is shown; ``None`` without pairs."""
    order = [label for label in canvas.ranked if any(label in (v.test.a, v.test.b) for v in views)]
    if not views:
        return None
    found, rows = [], []
    top = max(abs(view.test.difference) for view in views) or 1.0
    for view in views:
        pair = view.test
        flip = order.index(pair.a) > order.index(pair.b)
        a, b = (pair.b, pair.a) if flip else (pair.a, pair.b)
        sign = -1 if flip else 1
        low, high = sorted(
            sign * bound for bound in (pair.joint_low, pair.joint_high) if bound is not None
        ) or (None, None)
        verdict = (
            say("charts.pairs.shown", better=view.better)
            if view.better
            else say("charts.pairs.open")
        )
        difference = sign * pair.difference
        p = f"p {number(pair.p_holm, 2)}"
        tip = join("", [f"{a} − {b}: {with_bounds(difference, low, high)}, {p}: ", verdict])
        found.append(
            Square(
                order.index(a), order.index(b),
                number(difference, 2) if len(order) > 7 else significant(difference),
                abs(difference) / top if view.better else 0.0, tip, a, view.better is not None,
            )
        )  # fmt: skip
        rows.append((f"{a} − {b}", difference, low, high, pair.p_holm, verdict))
    claims = [view.better for view in views if view.better]
    numbered = [f"{i} {label}" for i, label in enumerate(order, start=1)]
    columns = [str(i) for i in range(1, len(order) + 1)]
    signs = dict(enumerate(order))
    few = [
        Square(s.row, s.column, s.text if len(order) <= 7 else "✓" if s.strong else "·",
               s.heat, s.tip, s.projector, s.strong)
        for s in found
    ]  # fmt: skip
    wide, narrow = both(canvas, found, numbered, columns, (), signs, short=few)
    return Figure(
        name="pairs",
        title=say("charts.pairs.title"),
        alt=say("charts.pairs.alt", n=len(views), claimed=len(claims)),
        wide=wide,
        narrow=narrow,
        columns=(
            say("charts.pair"), say("charts.difference"), say("charts.joint.low"),
            say("charts.joint.high"), say("charts.p"), say("charts.verdict"),
        ),
        rows=tuple(rows),
    )  # fmt: skip


# ---- Places under each measure.


def measure_matrix(canvas: Canvas, view: Mapping[str, Any] | None) -> Figure | None:
    """The place of every projector under every measure; ``None`` where nothing is compared.

    Args:
        canvas: signs and order.
        view: of ``comparisons.sensitivity_view``, its cells in the order of ``canvas.ranked``.
    """
    if view is None:
        return None
    columns = [NAMES[row["metric"]] for row in view["rows"]]
    n = len(canvas.ranked)
    found, rows = [], []
    for i, label in enumerate(canvas.ranked):
        own: list[Value] = [label]
        for j, row in enumerate(view["rows"]):
            cell = row["cells"][i]
            own += [cell and cell["rank_by_mean"], cell and cell["value"]]
            if cell is None:
                continue
            place = cell["rank_by_mean"]
            tip = join("", [f"{label} · ", columns[j], f": {significant(cell['value'])}"])
            heat = 1 - (place - 1) / max(1, n - 1)
            found.append(Square(i, j, str(place), heat, tip, label, place == 1))
        rows.append(tuple(own))
    taus = [row["tau"] for row in view["rows"] if not row["lead"]]
    agree = sum(bool(row["same_top"]) for row in view["rows"] if not row["lead"])
    signs = dict(enumerate(canvas.ranked))
    wide, narrow = both(canvas, found, canvas.ranked, columns, columns, signs, upright=True)
    headings = [say("charts.projector")]
    for column in columns:
        headings += [join(" ", [column, say("charts.place")]), column]
    return Figure(
        name="measures",
        title=say("charts.measures.title"),
        alt=say("charts.measures.alt", agree=agree, of=len(taus), first=canvas.ranked[0],
                low=number(min(taus, default=None), 2)),
        wide=wide,
        narrow=narrow,
        columns=tuple(headings),
        rows=tuple(rows),
    )  # fmt: skip


# ---- Facts, which only the demo knows.


#: A fact whose κ may be 0 and is under this is not seen, or hardly.
BLIND = 0.2


def fact_matrix(canvas: Canvas, view: Mapping[str, Any] | None) -> Figure | None:
    """κ of every attribute by captioner; ``None`` where facts are not known.

    Args:
        canvas: signs and order.
        view: of ``trust.truth``.
    """
    if view is None:
        return None
    own = view["projectors"]
    labels = [*(p for p in canvas.ranked if p in own), *(p for p in own if p not in canvas.ranked)]
    names = [label if label in canvas.marks else role_name(label) for label in labels]
    attributes = list(view["rows"])
    columns = [_fact(attribute) for attribute in attributes]
    found, rows = [], []
    blind: list[Text] = []
    for i, label in enumerate(labels):
        cells = [view["rows"][attribute][own.index(label)] for attribute in attributes]
        rows.append((names[i], *(cell["kappa"] for cell in cells)))
        for j, cell in enumerate(cells):
            if cell["kappa"] is None:
                continue
            projector = label if label in canvas.marks else None
            value = f"κ {with_bounds(cell['kappa'], cell['low'], cell['high'])}"
            tip = join("", [names[i], " · ", columns[j], f": {value}"])
            unseen = cell["low"] is None or cell["low"] <= 0
            hardly = unseen and cell["kappa"] < BLIND
            text = f"{cell['kappa']:.2f}".replace("0.", ".").replace("-", "−")
            found.append(Square(i, j, text, cell["kappa"], tip, projector, not unseen))
            if hardly and projector is not None:
                blind.append(
                    say(
                        "charts.facts.blind",
                        projector=label,
                        fact=columns[j],
                        value=number(cell["kappa"], 2),
                    )
                )
    signs = {i: label for i, label in enumerate(labels) if label in canvas.marks}
    wide, narrow = both(canvas, found, names, columns, columns, signs, upright=True)
    return Figure(
        name="facts",
        title=say("charts.facts.title"),
        alt=join(" ", blind[:3] or [say("charts.facts.all")]),
        wide=wide,
        narrow=narrow,
        columns=(say("charts.captioner"), *columns),
        rows=tuple(rows),
    )  # fmt: skip


def _fact(attribute: str) -> Text:
    """The demo's attributes have a name in both languages, another world's their own."""
    key = f"clips.fact.{attribute}"
    return say(key) if key in LABELS else Text.same(attribute.replace("_", " "))


# ---- Learning rate and epochs.


def tuning_matrix(canvas: Canvas, grids: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Mean margin by learning rate and epochs, a panel a projector; ``None`` without grids.

    Args:
        canvas: signs and order.
        grids: of ``runs.tuning_grids``.
    """
    if not grids:
        return None
    order = {label: i for i, label in enumerate(canvas.ranked)}
    own = sorted(grids, key=lambda grid: order.get(grid["projector"], len(order)))
    texts = [say("charts.epochs"), say("charts.rate")]
    drawn = [
        canvas.draw(panels([_grid(canvas, grid, cell) for grid in own], columns), texts)
        for columns, cell in ((_across(own, WIDE), 52.0), (_across(own, NARROW), 46.0))
    ]
    with_settings = any(grid["has_settings"] for grid in own)
    rows, chosen = [], []
    for grid in own:
        for name, cells in grid["rows"].items():
            for rate, each in zip(grid["rates"], cells, strict=True):
                for cell in each:
                    rows.append((
                        grid["projector"], rate, cell["epochs"], cell["settings"], cell["value"],
                        cell["word"], say("charts.chosen") if cell["chosen"] else "",
                    ))  # fmt: skip
                    if cell["chosen"]:
                        chosen.append(f"{grid['projector']} {words.rate(rate)} × {name}")
    return Figure(
        name="tuning",
        title=say("charts.tuning.settings" if with_settings else "charts.tuning.title"),
        alt=say(
            "charts.tuning.settings_alt" if with_settings else "charts.tuning.alt",
            chosen="; ".join(chosen),
        ),
        wide=drawn[0],
        narrow=drawn[1],
        columns=(
            say("charts.projector"), say("charts.rate"), say("charts.epochs"),
            say("charts.settings"), say("charts.margin"), say("charts.refused"),
            say("charts.chosen"),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _across(grids: Sequence[Mapping[str, Any]], width: int) -> int:
    """Panels beside each other: as many as have room."""
    most = max(len(grid["rates"]) for grid in grids)
    cell = 52 if width == WIDE else 46
    name = 7.1 * (max(len(name) for grid in grids for name in grid["rows"]) - 1)
    return max(1, min(len(grids), int(width // (max(most * cell, 110) + name + 44))))


def _grid(canvas: Canvas, grid: Mapping[str, Any], cell: float) -> Plot:
    rates, names = grid["rates"], list(grid["rows"])
    found, chosen = [], []
    for i, cells in enumerate(grid["rows"].values()):
        for j, each in enumerate(cells):
            # Where cells share a place, the chosen one stands for it, else the best.
            for one in sorted(each, key=lambda c: (c["chosen"], c["value"]))[-1:]:
                setting = f"{words.rate(rates[j])} × {names[i]}"
                tip = f"{grid['projector']} · {setting}: {significant(one['value'])}"
                text = "✕" if one["word"] else significant(one["value"])
                heat = one["heat"] / 100
                found.append(Square(i, j, text, heat, tip, grid["projector"], one["chosen"]))
                if one["chosen"]:
                    chosen.append((i, j))
    columns = [words.rate(rate) for rate in rates]
    width = int(cell * len(columns) + 24 + 7.1 * max(len(name) for name in names))
    half = f" · {grid['half']}" if grid["half"] else ""
    own = grid["projector"]
    heading = canvas.heading(shown(own, HEADING) + half, own, above=34)
    return squares(canvas, found, names, columns, width, None, False, cell, chosen, heading)
