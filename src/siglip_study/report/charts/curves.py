"""Figures over training: losses, and what a projector keeps of the video.

Small multiples: a panel a projector, all on one scale, so that panels compare at a glance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from siglip_study.report.charts.drawing import BAD, MUTED, told
from siglip_study.report.charts.figure import (
    HEADING,
    NARROW,
    WIDE,
    Canvas,
    Figure,
    extent,
    shown,
)  # fmt: skip
from siglip_study.report.charts.spec import (
    Channel,
    Plot,
    field,
    layered,
    marks,
    panels,
    plain,
)  # fmt: skip
from siglip_study.report.language import Text, join
from siglip_study.report.results import role_name
from siglip_study.report.wording.labels import label as say
from siglip_study.report.words import significant


@dataclass(frozen=True)
class Line:
    """One line of a panel; ``strong`` is drawn over the others, ``dashed`` for a control."""

    points: tuple[tuple[float, float], ...]
    tip: str | Text
    colour: str
    projector: str | None = None
    strong: bool = True
    dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel; ``projector`` where it has that one's sign beside its title, ``domain`` where its
    vertical axis is fixed."""

    title: str | Text
    lines: tuple[Line, ...]
    projector: str | None = None
    rules: tuple[float, ...] = ()
    domain: tuple[float, float] | None = None


def _panel(
    panel: Panel, x: Channel, y: Channel, width: float, height: float, canvas: Canvas
) -> Plot:
    layers = []
    if panel.rules:
        seam = {"strokeDash": [2, 3], "opacity": 0.7}
        layers.append(marks([{"x": at} for at in panel.rules], "rule", seam, x=x))
    rows: list[dict[str, Any]] = [
        {
            "x": at, "y": level, "line": i, "colour": line.colour, "strong": line.strong,
            "dashed": line.dashed, "dots": line.dots, "told": told(line.tip, line.projector),
            "own": line.projector,
        }
        for i, line in enumerate(panel.lines)
        for at, level in line.points
    ]  # fmt: skip
    colour, each = plain("colour"), field("line:N")
    # What is dashed or faint is a layer of its own.
    for strong, dashed in ((False, False), (False, True), (True, False), (True, True)):
        own = [row for row in rows if (row["strong"], row["dashed"]) == (strong, dashed)]
        if own:
            line = {"strokeWidth": 1.8 if strong else 1.0, "opacity": 1.0 if strong else 0.4}
            dash = {"strokeDash": [4, 3]} if dashed else {}
            look = {**line, **dash}
            layers.append(marks(own, "line", look, x=x, y=y, color=colour, detail=each))
    for strong in (False, True):
        # A line tells; its dots know whose they are.
        dots = [
            {**row, "told": told("", row["own"])}
            for row in rows
            if row["dots"] and row["strong"] == strong
        ]
        point = {"filled": True, "size": 18, "opacity": 1 if strong else 0.4}
        layers.append(marks(dots, "point", point, x=x, y=y, color=colour))
    words = panel.title.en if isinstance(panel.title, Text) else shown(panel.title, HEADING)
    layers += canvas.heading(words, panel.projector)
    return layered(layers, width=width, height=height)


def small_multiples(
    canvas: Canvas,
    found: Sequence[Panel],
    x_title: Text,
    y_title: Text | None,
    texts: Sequence[Text] = (),
    y_domain: Sequence[float] | None = None,
    whole: bool = False,
) -> tuple[Markup, Markup]:
    """The wide and the narrow drawing of panels that share their scales.

    Args:
        canvas: signs of the projectors.
        found: the panels.
        x_title: of the horizontal axis.
        y_title: of the vertical one; ``None`` where each panel's title says it.
        texts: further texts with a Korean form.
        y_domain: of the vertical axis; ``None`` gives each panel its own.
        whole: whether steps are whole numbers.
    """
    ends = [at for panel in found for line in panel.lines for at, _ in line.points]
    top = max(ends, default=1.0) or 1.0
    drawn = []
    for width, across in ((WIDE, 3), (NARROW, 2)):
        columns = max(1, min(across, len(found)))
        side = (width - 10) / columns - 48 - (8 if y_title else 0)
        charts = []
        for i, panel in enumerate(found):
            values = [value for line in panel.lines for _, value in line.points]
            domain = panel.domain or y_domain or extent(values)
            last = i >= len(found) - columns
            step = -(-int(top) // 4) or 1
            ticks = {"values": list(range(0, int(top) + 1, step))} if whole else {"tickCount": 3}
            x = field(
                "x:Q", scale={"domain": [0, top], "nice": False},
                axis={"title": x_title.en if last else None, "grid": False,
                      "format": "~s", **ticks},
            )  # fmt: skip
            first = i % columns == 0
            y = field(
                "y:Q", scale={"domain": list(domain), "nice": False},
                axis={"title": y_title.en if y_title and first else None, "tickCount": 4},
            )  # fmt: skip
            charts.append(_panel(panel, x, y, side, 96, canvas))
        all_texts = [x_title, *([y_title] if y_title else []), *texts]
        drawn.append(canvas.draw(panels(charts, columns), all_texts))
    return drawn[0], drawn[1]


# ---- Losses.


def losses(canvas: Canvas, curves: Mapping[str, Any]) -> Figure | None:
    """Loss over both stages: report runs, tuning runs behind them, validation as dots.

    Args:
        canvas: signs and order.
        curves: of ``runs.curves``.
    """
    found, rows = [], []
    for label, cells in _by_panel(canvas, curves["cells"]):
        lines: list[Line] = []
        seams: set[float] = set()
        for cell in cells:
            first = curves["stage1"].get(cell["stage1"])
            offset = max(first["step"], default=0.0) if first else 0.0
            if offset:
                seams.add(float(offset))
            train = [
                *_line(first, "step", "loss", 0.0),
                *_line(cell["stage2"], "step", "loss", offset),
            ]
            held = [
                *_line(first, "epoch_step", "val_loss", 0.0),
                *_line(cell["stage2"], "epoch_step", "val_loss", offset),
            ]
            strong = cell["role"] != "tuning"
            last = held[-1][1] if held else None
            name, colour, own = _cell_name(cell), _cell_colour(canvas, cell), _own(canvas, cell)
            tip = join("", [name, f": {significant(last)}"])
            lines.append(Line(tuple(train), tip, colour, own, strong))
            if strong and held:
                lines.append(
                    Line(
                        tuple(held), tip, colour, _own(canvas, cell), strong, dashed=True, dots=True
                    )
                )
            final = train[-1][1] if train else None
            rows.append((cell["cell"], name, cell["learning_rate"], cell["epochs"], final, last))
        seam = (max(seams),) if len(seams) == 1 else ()
        found.append(Panel(label, tuple(lines), _label(canvas, label), seam))
    if not rows:
        return None
    values = [v for panel in found for line in panel.lines for _, v in line.points]
    x_title, y_title = say("charts.axis.step"), say("charts.axis.loss")
    titles = [panel.title for panel in found if isinstance(panel.title, Text)]
    wide, narrow = small_multiples(canvas, found, x_title, y_title, titles, extent(values))
    return Figure(
        name="losses",
        title=say("charts.losses.title"),
        alt=say("charts.losses.alt"),
        wide=wide,
        narrow=narrow,
        columns=(
            say("charts.run"), say("charts.kind"), say("charts.rate"), say("charts.epochs"),
            say("charts.loss.train"), say("charts.loss.held"),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _by_panel(
    canvas: Canvas, cells: Sequence[Mapping[str, Any]]
) -> list[tuple[str | Text, list[Mapping[str, Any]]]]:
    """Runs of each projector in the answer's order, then the controls together."""
    own: list[tuple[str | Text, list[Mapping[str, Any]]]] = [
        (label, [c for c in cells if c["projector"] == label and c["role"] in ("report", "tuning")])
        for label in canvas.ranked
    ]
    controls = [c for c in cells if c["role"].startswith("control_")]
    own.append((say("charts.controls"), controls))
    return [(label, found) for label, found in own if found]


def _line(
    curve: Mapping[str, Any] | None, x: str, y: str, offset: float
) -> list[tuple[float, float]]:
    if curve is None:
        return []
    return [(at + offset, v) for at, v in zip(curve[x], curve[y], strict=True) if v is not None]


def _cell_name(cell: Mapping[str, Any]) -> Text:
    role = role_name(cell["role"])
    return join(" · ", [str(cell["projector"]), role, say("charts.seed", seed=cell["seed"])])


def _own(canvas: Canvas, cell: Mapping[str, Any]) -> str | None:
    label = cell["projector"]
    return label if label in canvas.marks else None


def _label(canvas: Canvas, title: str | Text) -> str | None:
    return title if isinstance(title, str) and title in canvas.marks else None


def _cell_colour(canvas: Canvas, cell: Mapping[str, Any]) -> str:
    if cell["role"].startswith("control_") or cell["projector"] not in canvas.marks:
        return control_colour(cell["role"])
    return canvas.marks[cell["projector"]].colour


#: Controls are drawn together: each has a colour of its own that no projector has first.
_CONTROLS = {
    "control_hot": "var(--p7)",
    "control_blind": "var(--ink)",
    "control_noise": "var(--p5)",
    "control_permuted": "var(--p9)",
    "control_untrained": "var(--p10)",
}


def control_colour(role: str) -> str:
    """Colour of a control's line."""
    return _CONTROLS.get(role, MUTED)


# ---- What a projector keeps of the video.


def diagnosis(
    canvas: Canvas, rows: Iterable[Mapping[str, Any]], figures: Mapping[str, tuple[str, Text, bool]]
) -> Figure | None:
    """What becomes of the video in the projector's tokens, epoch by epoch; collapsed runs in front.

    Args:
        canvas: signs and order.
        rows: points of ``diagnosis.chart_rows``.
        figures: key → column of the rows, title, and whether it runs from 0 to 1.
    """
    by_cell: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_cell.setdefault(row["cell"], []).append(row)
    found, columns = [], []
    for column, title, share in figures.values():
        lines = []
        for own in by_cell.values():
            points = tuple((float(r["x"]), r[column]) for r in own if r.get(column) is not None)
            if not points:
                continue
            first = own[0]
            collapsed = first["collapsed"]
            colour = BAD if collapsed else first["colour"]
            tip = join(
                "",
                [first["label"], f": {significant(points[0][1])} → {significant(points[-1][1])}"],
            )
            lines.append(
                Line(points, tip, colour, first["projector"], collapsed or first["front"],
                     first["control"], dots=True)
            )  # fmt: skip
        if lines:
            found.append(Panel(title, tuple(lines), domain=(0.0, 1.03) if share else None))
            columns.append((column, title))
    if not found:
        return None
    titles = [title for _, title, _ in figures.values()]
    wide, narrow = small_multiples(
        canvas, found, say("charts.axis.epoch"), None, titles, None, True
    )
    last = [(own[0]["label"], *(own[-1].get(column) for column, _ in columns))
            for own in by_cell.values()]  # fmt: skip
    collapsed_runs = [own[0]["label"] for own in by_cell.values() if own[0]["collapsed"]]
    return Figure(
        name="diagnosis",
        title=say("charts.diagnosis.title"),
        alt=say("charts.diagnosis.collapsed", runs=join("; ", collapsed_runs))
        if collapsed_runs
        else say("charts.diagnosis.sound"),
        wide=wide,
        narrow=narrow,
        columns=(say("charts.run"), *(title for _, title in columns)),
        rows=tuple(last),
    )
