"""Diagnosis of collapse on the page: figures per projector and epoch, and a sentence a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siglip_study.report.charts.curves import control_colour
from siglip_study.report.charts.marks import Mark
from siglip_study.report.collapse_cause import why
from siglip_study.report.language import Text, join
from siglip_study.report.results import (
    OF_ONE_HALF,
    ROLES,
    CellResult,
    History,
    read_histories,
    role_name,
)
from siglip_study.report.wording.labels import label as say

#: Panel → its figure's column, and whether it runs from 0 to 1.
FIGURES: dict[str, tuple[str, bool]] = {
    "share": ("diag_video_share_after", True),
    "cosine": ("diag_cosine_after", False),
    "rank": ("diag_rank_clips", False),
    "neighbours": ("diag_neighbour_overlap", True),
    "lora": ("grad_share_lora", True),
    "variety": ("quick_effective_captions", True),
}

#: Cells whose lines are drawn at most: more would be neither told apart nor light.
LINES = 40


def told_histories(
    results: Path, cells: list[CellResult], tables: dict[str, list[dict[str, Any]]]
) -> list[History]:
    """Histories of every trained cell, collapsed ones first, then by role.

    ``tables`` has ``cells``, ``ranking`` and ``controls``.
    """
    gates = {row["cell"]: row["gate"] for row in tables["controls"] if row["gate"]}
    verdicts = {row["projector"]: row["gate"] for row in tables["ranking"]}
    for row in tables["cells"]:
        if row["role"] == "report" and row["projector"] in verdicts:
            gates[row["cell"]] = verdicts[row["projector"]]
    histories = read_histories(results, cells, tables["cells"], gates)
    return sorted(histories, key=lambda h: (not h.collapsed, list(ROLES).index(h.role)))


def diagnosis_view(histories: Sequence[History]) -> dict[str, Any] | None:
    """What the section says: ``{"rows", "clips"}``.

    A row is a history with its sentence. None where no run was measured, as with
    ``training.diagnosis_clips`` 0.
    """
    if not any(history.measured for history in histories):
        return None
    return {
        "rows": [
            {
                "history": history,
                "last": history.measured[-1] if history.measured else {},
                "run": run_name(history),
                "why": why(history, tuple(histories)),
            }
            for history in histories
        ],
        "clips": max(row["diag_n"] for h in histories for row in h.measured),
    }


def _drawn(histories: Sequence[History]) -> list[History]:
    return [h for h in histories if h.collapsed or h.role != "tuning"][:LINES]


def diagnosis_lines(
    histories: Sequence[History], marks: Mapping[str, Mark]
) -> tuple[list[dict[str, Any]], dict[str, tuple[str, Text, bool]]]:
    """Points of the figure's lines, and its panels: key → column, title, whether 0 to 1."""
    lines = [line for history in _drawn(histories) for line in chart_rows(history, marks)]
    panels = {
        key: (column, say(f"charts.diag.{key}"), share) for key, (column, share) in FIGURES.items()
    }
    return lines, panels


def run_name(history: History) -> Text:
    """The role; with the cell, where runs of one projector and seed report a half each."""
    role = ROLES[history.role]
    if not history.reports_half:
        return role
    return role + OF_ONE_HALF + Text.same(f" ({history.cell})")


def chart_rows(history: History, marks: Mapping[str, Mark]) -> list[dict[str, Any]]:
    """Points of one cell's lines: epoch 0 is before training; stage 2 follows on stage 1."""
    columns = [column for column, _ in FIGURES.values()]
    control = history.role.startswith("control_")
    own = marks.get(history.projector)
    base: dict[str, Any] = {
        "cell": history.cell,
        "label": join(
            " · ",
            [
                history.projector,
                role_name(history.role),
                say("charts.seed", seed=history.seed),
                # Runs of one projector and seed may report a half each.
                *([history.cell] if history.reports_half else []),
            ],
        ),
        "colour": own.colour if own and not control else control_colour(history.role),
        "projector": history.projector if own and not control else None,
        "control": control,
        "collapsed": bool(history.collapsed),
        "front": control,
    }
    rows = [{**base, "x": 0, **_figures(history.start, columns)}]
    for x, row in enumerate(history.measured, start=1):
        rows.append({**base, "x": x, **_figures(row, columns)})
    return rows if history.measured else []


def _figures(row: dict[str, Any], columns: list[str]) -> dict[str, float]:
    found = {column: row.get(column) for column in columns}
    return {column: float(f"{v:.4g}") for column, v in found.items() if v is not None}
