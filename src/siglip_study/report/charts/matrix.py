"""Figures in squares: pairs of projectors, places by measure, facts by attribute, tuning grids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from siglip_study.report import words
from siglip_study.report.charts.drawing import CHOSEN, HEAT, INK, LINE, SMALL, told
from siglip_study.report.charts.figure import (
    HEADING,
    LONG,
    SHORT,
    WIDE,
    Canvas,
    Figure,
    Value,
    row_axis,
    shown,
    signs,
    with_bounds,
)  # fmt: skip
from siglip_study.report.charts.spec import Plot, field, layered, marks, panels, value
from siglip_study.report.evidence import PairView
from siglip_study.report.language import Text, join
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
    framed: bool = False


def squares(
    canvas: Canvas,
    found: Sequence[Square],
    names: Sequence[str],
    columns: Sequence[str | Text],
    width: float,
    signs_of: Mapping[int, str] | None = None,
    upright: bool = False,
    most: float = 92,
    heading: Sequence[Plot] = (),
) -> Plot:
    """A chart of squares, its rows named at the left and its columns above.

    ``width`` is of the whole drawing and ``most`` of the widest square, in pixels; ``signs_of``:
    row → projector whose sign stands beside the row's name; ``upright`` turns the names of columns,
    for narrow squares; ``heading`` are marks above them.
    """
    label = (28 if signs_of else 12) + 7.1 * max((len(name) for name in names), default=0)
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
    y = row_axis(names, padding=24 if signs_of else 8)
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
    framed = [row for row, square in zip(rows, found, strict=True) if square.framed]
    if framed:
        frame = {"fill": None, "stroke": CHOSEN, "strokeWidth": 2.5, "cornerRadius": 2}
        layers.append(marks(framed, "rect", frame, x=x, y=y))
    if signs_of:
        own = [
            {"row": row, "told": told("", label), **canvas.look(label)}
            for row, label in signs_of.items()
        ]
        layers.append(signs(own, 55, x=value(-13), y=y))
    return layered([*layers, *heading], width=cell * len(columns), height=size * len(names))


def _drawn(
    canvas: Canvas,
    found: Sequence[Square],
    names: Sequence[Text],
    columns: Sequence[str | Text],
    signs_of: Mapping[int, str],
    width: int,
) -> Markup:
    limit = LONG if width == WIDE else SHORT
    cut = [Text(*(shown(words, limit) for words in (name.en, name.ko))) for name in names]
    texts = [column for column in columns if isinstance(column, Text)]
    upright = width != WIDE and bool(texts)
    chart = squares(canvas, found, [name.en for name in cut], columns, width, signs_of, upright)
    return canvas.draw(chart, [*texts, *cut])


# ---- Pairs.


def pair_matrix(canvas: Canvas, views: Sequence[PairView]) -> Figure | None:
    """Whose mean is higher, by how much, and whether that is shown; ``None`` without pairs."""
    order = [label for label in canvas.ranked if any(label in (v.test.a, v.test.b) for v in views)]
    if not views:
        return None
    found, few, rows = [], [], []
    top = max(abs(view.test.difference) for view in views) or 1.0
    many = len(order) > 7
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
        square = Square(
            order.index(a), order.index(b),
            number(difference, 2) if many else significant(difference),
            abs(difference) / top if view.better else 0.0, tip, a, view.better is not None,
        )  # fmt: skip
        found.append(square)
        few.append(replace(square, text="✓" if view.better else "·") if many else square)
        rows.append((f"{a} − {b}", difference, low, high, pair.p_holm, verdict))
    names = [Text.same(f"{i} {label}") for i, label in enumerate(order, start=1)]
    columns = [str(i) for i in range(1, len(order) + 1)]
    signs_of = dict(enumerate(order))
    return canvas.figure(
        "pairs",
        lambda width: _drawn(
            canvas, found if width == WIDE else few, names, columns, signs_of, width
        ),
        say(
            "charts.pairs.alt", n=len(views), claimed=sum(view.better is not None for view in views)
        ),
        ("pair", "difference", "joint.low", "joint.high", "p", "verdict"),
        rows,
    )


# ---- Places under each measure.


def measure_matrix(canvas: Canvas, view: Mapping[str, Any] | None) -> Figure | None:
    """The place of every projector under every measure; ``None`` where nothing is compared.

    ``view`` is of ``comparisons.sensitivity_view``, its cells in the order of ``canvas.ranked``.
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
    others = [row for row in view["rows"] if not row["lead"]]
    names = [Text.same(label) for label in canvas.ranked]
    signs_of = dict(enumerate(canvas.ranked))
    place = say("charts.place")
    return canvas.figure(
        "measures",
        lambda width: _drawn(canvas, found, names, columns, signs_of, width),
        say(
            "charts.measures.alt",
            agree=sum(bool(row["same_top"]) for row in others),
            of=len(others),
            first=canvas.ranked[0],
            low=number(min((row["tau"] for row in others), default=None), 2),
        ),
        ["projector", *(text for own in columns for text in (join(" ", [own, place]), own))],
        rows,
    )


# ---- Facts, which only the demo knows.


#: A fact whose κ may be 0 and is under this is not seen, or hardly.
BLIND = 0.2


def fact_matrix(canvas: Canvas, view: Mapping[str, Any] | None) -> Figure | None:
    """κ of every attribute by captioner, as of ``trust.truth``; ``None`` where there is none."""
    if view is None:
        return None
    own = view["projectors"]
    labels = [*(p for p in canvas.ranked if p in own), *(p for p in own if p not in canvas.ranked)]
    names = [Text.same(label) if canvas.own(label) else role_name(label) for label in labels]
    columns = [_fact(attribute) for attribute in view["rows"]]
    found, rows = [], []
    blind: list[Text] = []
    for i, label in enumerate(labels):
        cells = [of[own.index(label)] for of in view["rows"].values()]
        rows.append((canvas.own(label) or names[i], *(cell["kappa"] for cell in cells)))
        for j, cell in enumerate(cells):
            if cell["kappa"] is None:
                continue
            projector = canvas.own(label)
            value = f"κ {with_bounds(cell['kappa'], cell['low'], cell['high'])}"
            tip = join("", [names[i], " · ", columns[j], f": {value}"])
            unseen = cell["low"] is None or cell["low"] <= 0
            text = f"{cell['kappa']:.2f}".replace("0.", ".").replace("-", "−")
            found.append(Square(i, j, text, cell["kappa"], tip, projector, not unseen))
            if unseen and cell["kappa"] < BLIND and projector is not None:
                told_of = {"projector": label, "fact": columns[j]}
                kappa = number(cell["kappa"], 2)
                blind.append(say("charts.facts.blind", **told_of, value=kappa))
    signs_of = {i: label for i, label in enumerate(labels) if canvas.own(label)}
    return canvas.figure(
        "facts",
        lambda width: _drawn(canvas, found, names, columns, signs_of, width),
        join(" ", blind[:3] or [say("charts.facts.all")]),
        ("captioner", *columns),
        rows,
    )


def _fact(attribute: str) -> Text:
    """The demo's attributes have a name in both languages, another world's their own."""
    key = f"clips.fact.{attribute}"
    return say(key) if key in LABELS else Text.same(attribute.replace("_", " "))


# ---- Learning rate and epochs.


def tuning_matrix(canvas: Canvas, grids: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Mean margin by learning rate and epochs, a panel a projector; ``None`` without grids.

    ``grids`` are of ``runs.tuning_grids``.
    """
    if not grids:
        return None
    order = {label: i for i, label in enumerate(canvas.ranked)}
    own = sorted(grids, key=lambda grid: order.get(grid["projector"], len(order)))
    texts = [say("charts.epochs"), say("charts.rate"), *map(_title, own)]

    def drawn(width: int) -> Markup:
        cell = 52 if width == WIDE else 46
        plots = [_grid(canvas, grid, cell) for grid in own]
        return canvas.draw(panels(plots, _across(own, width, cell)), texts)

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
    with_settings = any(grid["has_settings"] for grid in own)
    alt = "charts.tuning.settings_alt" if with_settings else "charts.tuning.alt"
    return canvas.figure(
        "tuning",
        drawn,
        say(alt, chosen="; ".join(chosen)),
        ("projector", "rate", "epochs", "settings", "margin", "refused", "chosen"),
        rows,
        "settings" if with_settings else "title",
    )


def _across(grids: Sequence[Mapping[str, Any]], width: int, cell: int) -> int:
    """Panels beside each other: as many as have room."""
    most = max(len(grid["rates"]) for grid in grids)
    name = 7.1 * (max(len(name) for grid in grids for name in grid["rows"]) - 1)
    return max(1, min(len(grids), int(width // (max(most * cell, 110) + name + 44))))


def _grid(canvas: Canvas, grid: Mapping[str, Any], cell: float) -> Plot:
    label, rates, names = grid["projector"], grid["rates"], list(grid["rows"])
    found = []
    for i, cells in enumerate(grid["rows"].values()):
        for j, each in enumerate(cells):
            # Where cells share a place, the chosen one stands for it, else the best.
            for one in sorted(each, key=lambda c: (c["chosen"], c["value"]))[-1:]:
                text = significant(one["value"])
                tip = f"{label} · {words.rate(rates[j])} × {names[i]}: {text}"
                square = Square(
                    i, j, "✕" if one["word"] else text, one["heat"] / 100, tip, label,
                    one["chosen"], one["chosen"],
                )  # fmt: skip
                found.append(square)
    columns = [words.rate(rate) for rate in rates]
    width = int(cell * len(columns) + 24 + 7.1 * max(len(name) for name in names))
    heading = canvas.heading(_title(grid).en, label, above=34)
    return squares(canvas, found, names, columns, width, most=cell, heading=heading)


def _title(grid: Mapping[str, Any]) -> Text:
    """The projector; with the half that chose, where each has its table."""
    label = shown(grid["projector"], HEADING)
    return join(" · ", [label, grid["half"]] if grid["half"] else [label])
