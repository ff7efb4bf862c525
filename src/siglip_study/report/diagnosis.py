"""Diagnosis of collapse on the page: figures per projector and epoch, and a sentence a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from siglip_study.report import words
from siglip_study.report.charts import PALETTE, spec
from siglip_study.report.collapse_cause import why
from siglip_study.report.results import OF_ONE_HALF, ROLES, CellResult, History, read_histories

#: Chart → its figure's column, the title of its axis, whether it runs from 0 to 1, what it says.
FIGURES: dict[str, tuple[str, str, bool, str]] = {
    "diag-share": (
        "diag_video_share_after",
        "share of video in tokens",
        True,
        "Share of the tokens that depends on the video: at 0 the projector has lost it.",
    ),
    "diag-cosine": (
        "diag_cosine_after",
        "between-video cosine of tokens",
        False,
        "Cosine between the pooled tokens of different videos: at 1 all are alike.",
    ),
    "diag-rank": (
        "diag_rank_clips",
        "effective rank of clips",
        False,
        "Effective rank of the clips' mean tokens: at 1 they lie on one line.",
    ),
    "diag-neighbours": (
        "diag_neighbour_overlap",
        "nearest neighbours that survive",
        True,
        "Share of each clip's nearest neighbours that the projector keeps.",
    ),
    "diag-attention": (
        "diag_attention_entropy",
        "attention entropy",
        True,
        "Attention entropy, where a projector attends: 0 reads one patch, 1 averages all.",
    ),
    "diag-lora": (
        "grad_share_lora",
        "LoRA’s share of gradient",
        True,
        "LoRA's share of the squared gradient norm; none in stage 1.",
    ),
}

#: Cells whose lines are drawn at most: more would be neither told apart nor light.
LINES = 40

#: Dashed lines of their own colours: a study may draw all of these in one chart.
_CONTROL_COLOURS = {
    "control_hot": "#c0392b",
    "control_noise": "#9b7653",
    "control_permuted": "#6f8f5f",
    "control_untrained": "#a58fb5",
}
_GREY = "#808890"


def diagnosis_view(
    results: Path,
    cells: list[CellResult],
    tables: dict[str, list[dict[str, Any]]],
    colours: dict[str, str],
) -> dict[str, Any] | None:
    """What the section shows: ``{"rows", "legend", "charts", "specs", "clips"}``.

    A row is ``first`` where its sentence is read without unfolding: collapsed runs, controls, and
    report runs.

    None where no run was measured, as with ``training.diagnosis_clips`` 0.

    Args:
        results: output folder.
        cells: every cell of the study.
        tables: the tables ``cells``, ``ranking`` and ``controls``.
        colours: projector → colour.
    """
    gates = {row["cell"]: row["gate"] for row in tables["controls"] if row["gate"]}
    verdicts = {row["projector"]: row["gate"] for row in tables["ranking"]}
    for row in tables["cells"]:
        if row["role"] == "report" and row["projector"] in verdicts:
            gates[row["cell"]] = verdicts[row["projector"]]
    histories = read_histories(results, cells, tables["cells"], gates)
    if not any(history.measured for history in histories):
        return None
    shown = sorted(histories, key=lambda h: (not h.collapsed, list(ROLES).index(h.role)))
    drawn = [h for h in shown if h.collapsed or h.role != "tuning"][:LINES]
    lines = [line for history in drawn for line in chart_rows(history, _colour(history, colours))]
    specs = {
        name: chart(lines, column, title, share)
        for name, (column, title, share, _) in FIGURES.items()
        if any(line.get(column) is not None for line in lines)
    }
    rows = [table_row(history, tuple(histories)) for history in shown]
    return {
        "rows": [
            {**row, "first": history in drawn} for row, history in zip(rows, shown, strict=True)
        ],
        "legend": _legend(drawn, colours),
        "charts": [(name, FIGURES[name][3]) for name in specs],
        "specs": specs,
        "clips": max(row["diag_n"] for h in histories for row in h.measured),
    }


def table_row(history: History, others: tuple[History, ...]) -> dict[str, Any]:
    """A cell's figures before training and at its end, and its sentence."""
    last = history.measured[-1] if history.measured else {}
    start = history.start

    def change(column: str, digits: int) -> str:
        ends = (words.number(side.get(column), digits) for side in (start, last))
        return " → ".join(ends) if column in start else words.number(last.get(column), digits)

    return {
        "cell": history.cell,
        "projector": history.projector,
        "role": ROLES[history.role],
        "run": _run(history),
        "seed": "–" if history.seed is None else str(history.seed),
        "state": "collapsed" if history.collapsed else "",
        "share_before": words.number(last.get("diag_video_share_before"), 2),
        "share": change("diag_video_share_after", 3),
        "cosine_before": words.number(last.get("diag_cosine_before"), 2),
        "cosine": change("diag_cosine_after", 2),
        "rank": change("diag_rank_clips", 1),
        "rank_tokens": words.number(last.get("diag_rank_tokens"), 1),
        "neighbours": words.number(last.get("diag_neighbour_overlap"), 2),
        "attention": words.number(last.get("diag_attention_entropy"), 2),
        "lora": words.number(last.get("grad_share_lora"), 2),
        "why": why(history, others),
    }


def _run(history: History) -> str:
    """The role; with the cell, where runs of one projector and seed report a half each."""
    role = ROLES[history.role]
    return f"{role}{OF_ONE_HALF} ({history.cell})" if history.reports_half else role


def chart_rows(history: History, colour: str) -> list[dict[str, Any]]:
    """Points of one cell's lines: epoch 0 is before training; stage 2 follows on stage 1."""
    columns = [column for column, *_ in FIGURES.values()]
    run = _run(history)
    label = f"{history.projector} · {run[0].lower()}{run[1:]} · seed {history.seed}"
    base: dict[str, Any] = {"cell": history.cell, "label": label, "colour": colour}
    base["control"] = history.role.startswith("control_")
    rows = [{**base, "x": 0, "when": "before training", **_figures(history.start, columns)}]
    for x, row in enumerate(history.measured, start=1):
        when = f"stage {row['stage']}, epoch {row['epoch']}"
        rows.append({**base, "x": x, "when": when, **_figures(row, columns)})
    return rows if history.measured else []


def _figures(row: dict[str, Any], columns: list[str]) -> dict[str, float]:
    found = {column: row.get(column) for column in columns}
    return {column: float(f"{v:.4g}") for column, v in found.items() if v is not None}


def chart(rows: list[dict[str, Any]], column: str, title: str, share: bool) -> dict[str, Any]:
    """One figure over epochs, a line a cell; controls are dashed."""
    import altair as alt

    keep = ("cell", "label", "colour", "control", "x", "when")
    data = [
        {**{key: row[key] for key in keep}, "y": row[column]}
        for row in rows
        if row.get(column) is not None
    ]
    base = alt.Chart(alt.Data(values=data)).encode(
        x=alt.X(
            "x:Q",
            title="epoch of both stages; 0: before training",
            axis=alt.Axis(tickMinStep=1, format="d"),
        ),
        y=alt.Y(
            "y:Q",
            title=title,
            scale=alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False, nice=True),
        ),
        color=alt.Color("colour:N", scale=None),
        detail="cell:N",
        tooltip=["label:N", "when:N", alt.Tooltip("y:Q", title=title)],
    )
    solid = base.transform_filter("!datum.control").mark_line(strokeWidth=1.6)
    dashed = base.transform_filter("datum.control").mark_line(strokeWidth=1.6, strokeDash=[5, 3])
    points = base.mark_point(filled=True, size=34, opacity=1)
    layers = alt.layer(solid, dashed, points)
    return spec(layers.properties(width="container", height=190))


def _colour(history: History, colours: dict[str, str]) -> str:
    if history.role.startswith("control_"):
        return _CONTROL_COLOURS.get(history.role, _GREY)
    return colours.get(history.projector, PALETTE[8])


def _legend(drawn: list[History], colours: dict[str, str]) -> list[dict[str, str]]:
    names = {
        (
            ROLES[h.role] if h.role.startswith("control_") else h.projector,
            _colour(h, colours),
        ): None
        for h in drawn
    }
    return [{"name": name, "colour": colour} for name, colour in names]
