"""The report: one HTML file that holds everything it needs and asks nobody for anything."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path, write_json
from siglip_study.data.summary import read_summary
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.procedure import read_ranking
from siglip_study.ranking.selection import read_selection
from siglip_study.report import gallery_view, runs, schema, words
from siglip_study.report.charts.figure import Canvas, figure_value
from siglip_study.report.charts.marks import colour_style, projector_marks
from siglip_study.report.charts.study import study_figures, write_figures
from siglip_study.report.collapse_cause import diagnosis_view
from siglip_study.report.comparisons import (
    every_metric,
    metric_heading,
    published_view,
    sensitivity_view,
)
from siglip_study.report.controls import EXPECTATIONS
from siglip_study.report.embed import content_policy, embedded_fonts, inline_script, json_island
from siglip_study.report.evidence import evidence, findings
from siglip_study.report.first_screen import first_screen
from siglip_study.report.gallery import (
    Gallery,
    GallerySettings,
    compressed,
    read_gallery,
    within_budget,
)
from siglip_study.report.language import Language, attribute
from siglip_study.report.ledger import differences, sharing
from siglip_study.report.reproduction import citation, commands
from siglip_study.report.results import (
    ANSWER_SCHEMA,
    OF_ONE_HALF,
    ROLES,
    CellResult,
    only,
    part_names,
    read_cells,
    read_histories,
)
from siglip_study.report.tables import read_table
from siglip_study.report.trust import beyond_category, trust, truth
from siglip_study.report.wording.claims import data_line, influence
from siglip_study.report.wording.conclusion import answer, caveats
from siglip_study.report.wording.gate import gate_explained, gate_name, scorer_check, stamps
from siglip_study.report.wording.glossary import TERMS, term
from siglip_study.report.wording.labels import LABELS, label
from siglip_study.report.wording.metrics import as_written, definition

#: What templates call by name beside figures in words: ``{{ ranking|caveats }}``.
SENTENCES: tuple[Callable[..., Any], ...] = (
    *(caveats, gate_explained, gate_name, influence, scorer_check, stamps),
    *(figure_value, definition, as_written),
)
#: The page's own scripts, in the order in which they run.
SCRIPTS = ("script.js", "language.js", "charts.js", "gallery.js")
STYLES = ("style.css", "charts.css", "gallery.css")


def write_report(
    results: Path,
    template_dir: Path,
    out: Path,
    title: str,
    config: dict[str, Any],
    provenance: dict[str, Any],
    gallery: GallerySettings,
    published: Path | None = None,
    language: Language = "en",
    figures: Path | None = None,
) -> None:
    """Write the report of a study whose tables are built, and its answer as JSON beside it.

    Args:
        results: output folder of the study.
        template_dir: folder with ``template.html.j2``, styles, scripts and ``fonts/``.
        out: the HTML file.
        title: title of the page.
        config: the config as plain values, shown as YAML.
        provenance: what to show of the origin; ``command``, ``git_commit`` and ``versions`` (name →
            version) have places of their own, other keys are listed.
        gallery: pictures and budgets of the gallery.
        published: rows of the published study (JSON), shown as published.
        language: in which the page opens; it holds every language.
        figures: folder for the figures as files of their own, in that language.

    Raises:
        StudyError: an input is missing or malformed, or the page cannot be kept within its budget.
    """
    results, template_dir = Path(results), Path(template_dir)
    tables = {name: read_table(results, name) for name in schema.TABLES if name != "clips"}
    roles: dict[str, list[str]] = {}
    for row in tables["cells"]:
        roles.setdefault(row["role"], []).append(row["cell"])
    cells = read_cells(results, roles)
    view = _view(results, tables, cells, title, config, provenance, published)
    clips = read_gallery(results, view["whole"], view["projectors"], gallery)
    settings = gallery
    while True:
        clips = within_budget(clips, settings)
        html = _render(template_dir, {**view, **_clips(clips)}, language)
        size = len(html.encode())
        if size <= settings.page_bytes:
            break
        excess = size - settings.page_bytes
        if settings.picture_bytes + settings.text_bytes == 0:
            raise StudyError(
                f"{out}: the page takes {size} bytes without its gallery; "
                f"expected at most {settings.page_bytes}."
            )
        settings = _shrink(settings, clips, excess)
    with atomic_path(out) as partial:
        partial.write_text(html, encoding="utf-8")
    told = dataclasses.asdict(view["first"])
    told |= {"findings": [dataclasses.asdict(text) for text in view["findings"]]}
    told |= {"title": title, "answer": dataclasses.asdict(view["ranking"].answer)}
    told |= {"config": config}
    write_json(out.with_suffix(".json"), told, ANSWER_SCHEMA)
    if figures is not None:
        write_figures(view["figures"].values(), figures, language, template_dir / "fonts")


def _shrink(settings: GallerySettings, clips: Gallery, excess: int) -> GallerySettings:
    """Smaller budgets: pictures give way first, then captions."""
    used = sum(len(picture) for picture in clips.pictures() if picture)
    if used:
        return dataclasses.replace(settings, picture_bytes=max(0, used - excess))
    text = max(0, min(settings.text_bytes, len(compressed(clips.text))) - excess)
    return dataclasses.replace(settings, picture_bytes=0, text_bytes=text)


def _clips(clips: Gallery) -> dict[str, Any]:
    """What the templates see of the clips."""
    return {
        "gallery": clips,
        "gallery_choices": gallery_view.choices(clips),
        "gallery_values": gallery_view.fact_values(clips),
    }


def _view(
    results: Path,
    tables: dict[str, list[dict[str, Any]]],
    cells: list[CellResult],
    title: str,
    config: dict[str, Any],
    provenance: dict[str, Any],
    published: Path | None,
) -> dict[str, Any]:
    """What the templates see: the tables, typed results, and what is computed from them."""
    ranking = read_ranking(results / "tables" / "ranking.json")
    selection = read_selection(results / "tables" / "selection.json")
    projectors = [row["projector"] for row in tables["ranking"]]
    parts = part_names(cells)
    # Two trainings that report a half each stand for nothing but what they are together.
    whole = [row for row in tables["cells"] if row["cell"] not in parts]
    # A projector's sign goes by its place in the config, whatever the results are.
    canvas = Canvas(projectors, projector_marks(list(selection.projectors)))
    references = only(cells, "references")
    histories = read_histories(results, cells, tables)
    sensitivity = sensitivity_view(tables["sensitivity"], projectors)
    facts = truth(cells, projectors)
    figures = study_figures(
        canvas,
        tables,
        whole,
        ranking,
        selection,
        runs.curves(results, tables["cells"]),
        histories,
        {"sensitivity": sensitivity, "truth": facts},
        GateThresholds(**(config.get("gate") or {})),
    )
    origin = {"command": None, "git_commit": None, "versions": {}, **provenance}
    orders = None
    if sensitivity is not None:
        others = [row for row in sensitivity["rows"] if not row["lead"]]
        agree = [row for row in others if row["same_top"]]
        orders = len(agree), [(row["label"], row["top"]) for row in others if row not in agree]
    return {
        "title": title,
        "first": first_screen(ranking, tables, cells, config, provenance.get("date"), orders),
        "dataset": data_line(
            read_summary(results / "data" / "summary.json"), "tables/rejected.csv"
        ),
        "tables": tables,
        "ranking": ranking,
        "references": references,
        "roles": ROLES,
        "one_half": OF_ONE_HALF,
        "expectations": EXPECTATIONS,
        "findings": findings(ranking, tables["controls"], cells),
        "headings": {row["metric"]: metric_heading(row) for row in tables["metrics"]},
        "answer": answer(ranking),
        "basis": ", ".join(
            sorted({r["interval_basis"] for r in tables["ranking"] if r["interval_basis"]})
        ),
        "gates": {own.projector: own.gate for own in ranking.projectors},
        "trust": trust(ranking, tables["controls"], cells),
        "evidence": evidence(ranking, cells),
        "ledger": sorted(tables["ledger"], key=lambda row: projectors.index(row["projector"])),
        "unequal": differences(cells, selection),
        "sharing": sharing(cells),
        # Their halves chose two.
        "crossed": {label for label, own in selection.projectors.items() if own.chosen is None},
        "sensitivity": sensitivity,
        "projectors": projectors,
        "truth": facts,
        "sight": beyond_category(results, ranking, tables["controls"], cells),
        "diagnosis": diagnosis_view(histories),
        "grids": runs.tuning_grids(selection),
        "cross_fitted": bool(selection.halves),
        "parts": parts,
        "whole": whole,
        "every_metric": every_metric(tables["metrics"], cells, projectors, ranking),
        "costs": runs.costs(tables["cells"]),
        "published": published_view(published, whole, config.get("gate")),
        "figures": figures,
        "marks": canvas.marks,
        "provenance": {
            "commands": commands(config, origin["command"], origin["git_commit"]),
            "citation": citation(
                origin["versions"].get("siglip-study"), origin["git_commit"], origin.get("date")
            ),
            "config_file": base64.b64encode(config_yaml(config).encode()).decode(),
            **{key: origin.pop(key) for key in ("command", "git_commit", "versions")},
            "trained_at": sorted({c["git_commit"] for c in tables["cells"] if c["git_commit"]}),
            "other": origin,
            "config": config_yaml(config),
        },
        "islands": {},
    }


def config_yaml(config: dict[str, Any]) -> str:
    """A config as a file that can be run again."""
    return str(yaml.safe_dump(config, allow_unicode=True, sort_keys=False, width=100))


def _render(template_dir: Path, view: dict[str, Any], language: Language) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(template_dir),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**words.FILTERS, **{each.__name__: each for each in SENTENCES}}
    environment.globals |= {
        "say": label,
        "term": term,
        "terms": TERMS,
        "labels": LABELS,
        "attribute": partial(attribute, language=language),
    }
    template = environment.get_template("template.html.j2")
    scripts = [(template_dir / name).read_text(encoding="utf-8") for name in SCRIPTS]
    scripts = [inline_script(source) for source in scripts]
    clips: Gallery = view["gallery"]
    islands = {**view["islands"], "clips": gallery_view.island(clips)}
    text = clips.text
    context = {
        **view,
        "language": language,
        "islands": {name: Markup(json_island(obj)) for name, obj in islands.items()},
        "packed_clips": Markup(compressed(text)),
        "scripts": [Markup(source) for source in scripts],
        "style": Markup(
            "\n".join((template_dir / name).read_text(encoding="utf-8") for name in STYLES)
            + colour_style()
        ),
        "policy": content_policy(scripts),
        "fonts": [],
    }
    # The page decides which glyphs it needs, so it is written once without fonts.
    drawn = [template.render(context), text]
    context["fonts"] = embedded_fonts(template_dir / "fonts", drawn)
    return template.render(context)
