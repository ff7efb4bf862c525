"""Every figure of a study, and its files for a paper."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from altair.utils.schemapi import debug_mode

from siglip_study.base.io import atomic_path
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.procedure import Ranking
from siglip_study.ranking.selection import StudySelection
from siglip_study.report import runs
from siglip_study.report.charts import curves, matrix, points
from siglip_study.report.charts.answer import intervals
from siglip_study.report.charts.drawing import standalone
from siglip_study.report.charts.figure import Canvas, Figure
from siglip_study.report.charts.marks import LIGHT
from siglip_study.report.evidence import pair_views
from siglip_study.report.language import Language
from siglip_study.report.results import History


@debug_mode(False)
def study_figures(
    canvas: Canvas,
    tables: Mapping[str, list[dict[str, Any]]],
    whole: Sequence[Mapping[str, Any]],
    ranking: Ranking,
    selection: StudySelection,
    curve_data: Mapping[str, Any],
    histories: Sequence[History],
    measured: Mapping[str, Any],
    thresholds: GateThresholds,
) -> dict[str, Figure]:
    """Figures by name, those that this study has the data for.

    ``whole`` are rows of the ``cells`` table without trainings that report one half, ``curve_data``
    is of ``runs.curves``, ``histories`` are of every trained cell, the telling ones first, and
    ``measured`` are the views ``sensitivity`` and ``truth``.
    """
    bars = {row["role"]: row["standardised_margin"] for row in whole}
    marks = {
        "chance": 0.0,
        "retrieval": bars.get("control_retrieval"),
        "human": bars.get("references"),
    }
    found = [
        intervals(canvas, tables["ranking"], tables["runs"], marks, ranking.alpha),
        points.controls(canvas, tables["controls"], tables["ranking"]),
        matrix.pair_matrix(canvas, pair_views(ranking)),
        points.diversity(canvas, whole, thresholds),
        matrix.measure_matrix(canvas, measured["sensitivity"]),
        matrix.fact_matrix(canvas, measured["truth"]),
        matrix.tuning_matrix(canvas, runs.tuning_grids(selection)),
        points.cost(canvas, tables["ranking"]),
        curves.losses(canvas, curve_data),
        curves.diagnosis(canvas, histories),
    ]
    return {figure.name: figure for figure in found if figure is not None}


def write_figures(
    figures: Iterable[Figure], folder: Path, language: Language, fonts: Path | None = None
) -> None:
    """Write ``<name>.svg``, ``.png`` (twice the size) and ``.pdf`` of every figure.

    Args:
        figures: of :func:`study_figures`.
        folder: where; made if it is not there.
        language: of the texts in them.
        fonts: folder with the report's Korean font (WOFF), for letters that this machine lacks.
    """
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    paper = {f"p{i}": colour for i, colour in enumerate(LIGHT, start=1)}
    with tempfile.TemporaryDirectory() as unpacked:
        if fonts is not None:
            _unpack(fonts, Path(unpacked))
            vl_convert.register_font_directory(unpacked)
        for figure in figures:
            svg = standalone(figure.wide, language, paper)
            files = {
                "svg": svg.encode(),
                "png": vl_convert.svg_to_png(svg, scale=2),
                "pdf": vl_convert.svg_to_pdf(svg),
            }
            for kind, content in files.items():
                with atomic_path(folder / f"{figure.name}.{kind}") as partial:
                    partial.write_bytes(content)


def _unpack(fonts: Path, folder: Path) -> None:
    """Fonts of the page as files that a renderer reads."""
    from fontTools.ttLib import TTFont

    logging.getLogger("fontTools").setLevel(logging.ERROR)
    for path in sorted(fonts.glob("*.woff")):
        font = TTFont(path)
        font.flavor = None
        font.save(folder / f"{path.stem}.ttf")
