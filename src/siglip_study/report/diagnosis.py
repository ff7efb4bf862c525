"""Diagnosis of collapse on the page: figures per projector and epoch, and a sentence a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from siglip_study.report.charts import PALETTE, diagnosis_chart
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

    A row is a history with its sentence, ``first`` where that is read without unfolding: collapsed
    runs, controls, and report runs. None where no run was measured, as with
    ``training.diagnosis_clips`` 0. ``tables`` has ``cells``, ``ranking`` and ``controls``.
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
        name: diagnosis_chart(lines, column, title, share)
        for name, (column, title, share, _) in FIGURES.items()
        if any(line.get(column) is not None for line in lines)
    }
    return {
        "rows": [
            {
                "history": history,
                "last": history.measured[-1] if history.measured else {},
                "run": run_name(history),
                "why": why(history, tuple(histories)),
                "first": history in drawn,
            }
            for history in shown
        ],
        # One entry a colour, in the order of the lines.
        "legend": dict.fromkeys(
            (
                ROLES[h.role] if h.role.startswith("control_") else h.projector,
                _colour(h, colours),
            )
            for h in drawn
        ),
        "charts": [(name, FIGURES[name][3]) for name in specs],
        "specs": specs,
        "clips": max(row["diag_n"] for h in histories for row in h.measured),
    }


def run_name(history: History) -> str:
    """The role; with the cell, where runs of one projector and seed report a half each."""
    role = ROLES[history.role]
    return f"{role}{OF_ONE_HALF} ({history.cell})" if history.reports_half else role


def chart_rows(history: History, colour: str) -> list[dict[str, Any]]:
    """Points of one cell's lines: epoch 0 is before training; stage 2 follows on stage 1."""
    columns = [column for column, *_ in FIGURES.values()]
    run = run_name(history)
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


def _colour(history: History, colours: dict[str, str]) -> str:
    if history.role.startswith("control_"):
        return _CONTROL_COLOURS.get(history.role, _GREY)
    return colours.get(history.projector, PALETTE[8])
