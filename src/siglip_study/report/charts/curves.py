"""Figures over training: losses, and what a projector keeps of the video.

Small multiples: a panel a projector, all on one scale, so that panels compare at a glance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from siglip_study.report.charts.drawing import BAD, MUTED, told
from siglip_study.report.charts.figure import (
    HEADING,
    WIDE,
    Canvas,
    Figure,
    Value,
    extent,
    quantity,
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
from siglip_study.report.results import History, role_name
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


def _small_multiples(
    canvas: Canvas,
    found: Sequence[Panel],
    width: int,
    x_title: Text,
    y_title: Text | None = None,
    y_domain: Sequence[float] | None = None,
    whole: bool = False,
) -> Markup:
    """Panels that share their horizontal scale.

    Without ``y_title`` each panel's title says what it is of, and without ``y_domain`` each has its
    own; ``whole``: steps are whole numbers.
    """
    ends = [at for panel in found for line in panel.lines for at, _ in line.points]
    top = max(ends, default=1.0) or 1.0
    columns = max(1, min(3 if width == WIDE else 2, len(found)))
    side = (width - 10) / columns - 48 - (8 if y_title else 0)
    step = -(-int(top) // 4) or 1
    ticks = {"values": list(range(0, int(top) + 1, step))} if whole else {"tickCount": 3}
    charts = []
    for i, panel in enumerate(found):
        values = [value for line in panel.lines for _, value in line.points]
        title = x_title.en if i >= len(found) - columns else None
        x = quantity("x", [0, top], title, grid=False, format="~s", **ticks)
        title = y_title.en if y_title and i % columns == 0 else None
        y = quantity("y", panel.domain or y_domain or extent(values), title, tickCount=4)
        charts.append(_panel(panel, x, y, side, 96, canvas))
    titles = [x_title, y_title, *(panel.title for panel in found)]
    texts = [title for title in titles if isinstance(title, Text)]
    return canvas.draw(panels(charts, columns), texts)


def _run_name(projector: str, role: str, seed: int | None, *more: str) -> Text:
    return join(" · ", [projector, role_name(role), say("charts.seed", seed=seed), *more])


#: Controls are drawn together: each has a colour of its own that no projector has first.
_CONTROLS = {
    "control_hot": "var(--p7)",
    "control_blind": "var(--ink)",
    "control_noise": "var(--p5)",
    "control_permuted": "var(--p9)",
    "control_untrained": "var(--p10)",
}


def _colour(canvas: Canvas, projector: str | None, role: str) -> str:
    label = canvas.own(projector)
    if label is None or role.startswith("control_"):
        return _CONTROLS.get(role, MUTED)
    return canvas.marks[label].colour


# ---- Losses.


def losses(canvas: Canvas, curves: Mapping[str, Any]) -> Figure | None:
    """Loss over both stages: report runs, tuning runs behind them, validation as dots.

    ``curves`` are of ``runs.curves``.
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
            train, held = (
                (*_line(first, *columns, 0.0), *_line(cell["stage2"], *columns, offset))
                for columns in (("step", "loss"), ("epoch_step", "val_loss"))
            )
            strong = cell["role"] != "tuning"
            final, last = (points[-1][1] if points else None for points in (train, held))
            name = _run_name(str(cell["projector"]), cell["role"], cell["seed"])
            colour = _colour(canvas, cell["projector"], cell["role"])
            own = canvas.own(cell["projector"])
            tip = join("", [name, f": {significant(last)}"])
            lines.append(Line(train, tip, colour, own, strong))
            if strong and held:
                lines.append(Line(held, tip, colour, own, strong, dashed=True, dots=True))
            rows.append((cell["cell"], name, cell["learning_rate"], cell["epochs"], final, last))
        seam = (max(seams),) if len(seams) == 1 else ()
        found.append(Panel(label, tuple(lines), canvas.own(label), seam))
    if not rows:
        return None
    domain = extent([v for panel in found for line in panel.lines for _, v in line.points])
    titles = say("charts.axis.step"), say("charts.axis.loss")
    return canvas.figure(
        "losses",
        lambda width: _small_multiples(canvas, found, width, *titles, domain),
        say("charts.losses.alt"),
        ("run", "kind", "rate", "epochs", "loss.train", "loss.held"),
        rows,
    )


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


# ---- What a projector keeps of the video.

#: Panel → its figure's column, and whether it runs from 0 to 1.
DIAGNOSED: dict[str, tuple[str, bool]] = {
    "share": ("diag_video_share_after", True),
    "cosine": ("diag_cosine_after", False),
    "rank": ("diag_rank_clips", False),
    "neighbours": ("diag_neighbour_overlap", True),
    "lora": ("grad_share_lora", True),
    "variety": ("quick_effective_captions", True),
}
#: Cells whose lines are drawn at most: more would be neither told apart nor light.
LINES = 40


def diagnosis(canvas: Canvas, histories: Sequence[History]) -> Figure | None:
    """What becomes of the video in the projector's tokens, epoch by epoch; collapsed runs in front.

    ``histories`` are of every trained cell, the telling ones first.
    """
    drawn = [own for own in histories if own.collapsed or own.role != "tuning"][:LINES]
    names = {own.cell: history_name(own) for own in drawn if own.measured}
    found: list[Panel] = []
    last: dict[str, list[Value]] = {cell: [name] for cell, name in names.items()}
    for key, (column, share) in DIAGNOSED.items():
        title = say(f"charts.diag.{key}")
        lines = []
        for own in drawn:
            points = history_points(own, column)
            if not points:
                continue
            control, collapsed = own.role.startswith("control_"), bool(own.collapsed)
            label = None if control else canvas.own(own.projector)
            colour = BAD if collapsed else _colour(canvas, own.projector, own.role)
            ends = f": {significant(points[0][1])} → {significant(points[-1][1])}"
            tip = join("", [names[own.cell], ends])
            lines.append(Line(points, tip, colour, label, collapsed or control, control, True))
        if lines:
            found.append(Panel(title, tuple(lines), domain=(0.0, 1.03) if share else None))
            for own in drawn:
                if own.measured:
                    last[own.cell].append(_rounded(own.measured[-1].get(column)))
    if not found:
        return None
    collapsed_runs = [names[own.cell] for own in drawn if own.measured and own.collapsed]
    axis = say("charts.axis.epoch")
    return canvas.figure(
        "diagnosis",
        lambda width: _small_multiples(canvas, found, width, axis, whole=True),
        say("charts.diagnosis.collapsed", runs=join("; ", collapsed_runs))
        if collapsed_runs
        else say("charts.diagnosis.sound"),
        ("run", *(panel.title for panel in found)),
        map(tuple, last.values()),
    )


def history_name(history: History) -> Text:
    """Projector, role and seed; with the cell, where two of a seed report a half each."""
    more = [history.cell] if history.reports_half else []
    return _run_name(history.projector, history.role, history.seed, *more)


def history_points(history: History, column: str) -> tuple[tuple[float, float], ...]:
    """Points of one cell's line: epoch 0 is before training; stage 2 follows on stage 1."""
    rows = [history.start, *history.measured] if history.measured else []
    levels = [(float(x), _rounded(row.get(column))) for x, row in enumerate(rows)]
    return tuple((x, level) for x, level in levels if level is not None)


def _rounded(level: float | None) -> float | None:
    return None if level is None else float(f"{level:.4g}")
