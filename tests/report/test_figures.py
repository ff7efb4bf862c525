"""Figures: drawn once for both languages and themes, told in words, safe with any text."""

from __future__ import annotations

import colorsys
import re
import xml.etree.ElementTree as ET

import pytest

from siglip_study.ranking.selection import Selection, StudySelection, TuningCell
from siglip_study.report.charts.drawing import draw, standalone, told
from siglip_study.report.charts.figure import Canvas, row_axis, shown, signed
from siglip_study.report.charts.marks import DARK, LIGHT, projector_marks
from siglip_study.report.charts.matrix import tuning_matrix
from siglip_study.report.charts.points import cost, pareto
from siglip_study.report.charts.spec import field, layered, marks, panels
from siglip_study.report.language import Text
from siglip_study.report.runs import tuning_grids

HOSTILE = '</svg><img src=x onerror=alert(1)> & "가\x00'
NAMES = ["linear", "mlp_2l", "c_abstractor", "query_perceiver"]


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# ---- A projector's sign.


@pytest.mark.parametrize(("colours", "ground"), [(LIGHT, "#ffffff"), (DARK, "#12151b")])
def test_colours_are_twelve_that_stand_out_from_the_page_and_none_is_grey(colours, ground) -> None:
    assert len(set(colours)) == 12
    for colour in colours:
        assert contrast(colour, ground) >= 3
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert colorsys.rgb_to_hls(red, green, blue)[2] > 0.3


def test_the_page_has_the_colours_of_both_themes(page) -> None:
    for colours in (LIGHT, DARK):
        assert page.count(" ".join(f"--p{i}: {c};" for i, c in enumerate(colours, 1))) == 2


def test_signs_go_by_the_config_and_neighbours_differ_in_shape() -> None:
    own = projector_marks([f"p{i}" for i in range(12)])
    assert [mark.colour for mark in own.values()] == [f"var(--p{i})" for i in range(1, 13)]
    assert len({(mark.colour, mark.shape) for mark in own.values()}) == 12
    assert all(own[f"p{i}"].shape != own[f"p{i + 1}"].shape for i in range(11))


# ---- A drawing.


def drawing(tip: str | Text = "", text: str = "word", texts: tuple[Text, ...] = ()) -> str:
    row = {"x": 1.0, "text": text, "colour": "var(--p1)", "told": told(tip, "linear")}
    look = {"field": "colour", "type": "nominal", "scale": None, "legend": None}
    point = marks([row], "point", {"filled": True}, x=field("x:Q"), color=look)
    words = marks([row], "text", {}, x=field("x:Q"), text=field("text:N"))
    return draw(layered([point, words], width=80, height=40), texts, {"word": "linear"})


def test_a_drawing_has_the_page_s_colours_and_no_ids_scripts_styles_or_addresses() -> None:
    svg = drawing()
    assert 'fill="var(--p1)"' in svg and 'data-p="linear"' in svg
    assert not re.search(r"\bid=|<style|<script|href|url\(|font-family", svg)


def test_a_text_stands_in_both_languages_and_a_mark_tells_both() -> None:
    svg = drawing(Text("seed 1", "시드 1"), "people", (Text("people", "사람"),))
    root = ET.fromstring(svg)
    texts = [(n.get("lang"), n.text) for n in root.iter() if n.get("class") == "t"]
    assert texts == [("en", "people"), ("ko", "사람")]
    assert 'data-en-tip="seed 1"' in svg and 'data-ko-tip="시드 1"' in svg


def test_hostile_text_is_text() -> None:
    clean = shown(HOSTILE, 200)
    root = ET.fromstring(drawing(clean, clean))
    tags = {node.tag.rpartition("}")[2] for node in root.iter()}
    assert tags <= {"svg", "g", "path", "line", "text"}
    assert clean.strip() in [node.text for node in root.iter()]


def test_a_file_of_its_own_has_one_language_and_colours_of_paper() -> None:
    svg = drawing("tip", "people", (Text("people", "사람"),))
    own = standalone(svg, "ko", {"p1": "#0276b9"})
    assert "사람" in own and "people" not in own
    assert "var(" not in own and "data-" not in own and "#0276b9" in own


# ---- Figures of a study.


def figures(page: str) -> dict[str, str]:
    found = re.findall(r'<figure class="chart.*?</figure>', page, flags=re.DOTALL)
    return {re.search(r'id="figure-([a-z]+)"', part)[1]: part for part in found}


def test_a_page_has_every_figure_told_and_with_its_data(page) -> None:
    found = figures(page)
    assert set(found) == {
        "intervals", "controls", "pairs", "diversity", "measures", "facts", "tuning", "cost",
        "losses", "diagnosis",
    }  # fmt: skip
    for name, part in found.items():
        assert part.count('role="img"') == 2 == part.count("<svg")
        assert f'aria-labelledby="figure-{name}-title"' in part
        title = re.search(rf'id="figure-{name}-title">(.*?)</h[23]>', part)[1]
        assert 'lang="en"' in title and 'lang="ko"' in title
        assert part.count("<tr") > 1


@pytest.mark.parametrize("name", NAMES)
def test_every_projector_is_in_every_figure_of_projectors(page, name) -> None:
    for figure in ("intervals", "pairs", "measures", "facts", "cost", "losses", "tuning"):
        assert f'data-p="{name}"' in figures(page)[figure]


def test_nothing_is_cheaper_and_better_than_the_line() -> None:
    points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.1), (2.0, 0.4), (4.0, 0.5)]
    assert [points[i] for i in pareto(points)] == [(1.0, 0.2), (2.0, 0.4), (3.0, 0.5)]


def test_without_a_known_cost_there_is_no_figure_of_it() -> None:
    canvas = Canvas(["a"], projector_marks(["a"]))
    row = {"projector": "a", "standardised_margin": 1.0, "wall_s": None, "gpu_s": None}
    assert cost(canvas, [{**row, "stage1_wall_s": None, "stage1_gpu_s": None}]) is None


def test_a_half_s_tuning_grid_is_named_in_both_languages() -> None:
    own = Selection(
        "x", 0.1, "grounded", 1, 0, 0, (), (TuningCell("x", "p", 0.1, "grounded", 1, 2),)
    )
    grids = tuning_grids(StudySelection({"p": own}, {"selection": {"p": own}}))
    drawn = tuning_matrix(Canvas(["p"], projector_marks(["p"])), grids).wide
    assert "p · half A, choosing for half B" in drawn and "p · B를 위해 고른 A 절반" in drawn


def test_figures_are_files_too(study, tmp_path) -> None:
    study.report(figures=tmp_path, language="ko")
    names = {path.stem for path in tmp_path.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("svg", "png", "pdf")
    }
    assert "intervals" in names
    for path in tmp_path.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert ET.fromstring(text).get("width") and 'lang="en"' not in text
    assert all(path.read_bytes()[:4] == b"%PDF" for path in tmp_path.glob("*.pdf"))
    assert all(path.read_bytes()[1:4] == b"PNG" for path in tmp_path.glob("*.png"))


def test_a_chart_is_what_vega_lite_s_schema_asks_for() -> None:
    canvas = Canvas(["a"], projector_marks(["a"]))
    row = {"row": 0, "x": 1.0, **canvas.look("a"), "told": told("a", "a")}
    point = marks([row], "point", {"filled": True}, x=field("x:Q"), y=row_axis(["a"]), **signed())
    chart = layered([point, *canvas.heading("a", "a")], width=40, height=20)
    assert panels([chart, chart], columns=2).spec(validate=True)["columns"] == 2
