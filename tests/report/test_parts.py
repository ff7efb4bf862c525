"""Small parts of the report: words, islands, fonts, curves and charts."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from support.made_study.ranking import verdict

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import RunGate
from siglip_study.ranking.selection import Selection, StudySelection, TuningCell
from siglip_study.ranking.variance import Bounds
from siglip_study.report import runs, words
from siglip_study.report.embed import (
    FAMILY,
    HANGUL_FAMILY,
    REGULAR,
    content_policy,
    embedded_fonts,
    inline_script,
    json_island,
    subset_font,
)
from siglip_study.report.language import Text
from siglip_study.report.wording.gate import gate_reason


@pytest.mark.parametrize(
    ("word", "given", "shown"),
    [
        ("number", (0.12345,), "0.123"),
        ("number", (-0.5,), "−0.500"),
        ("number", (-1e-9,), "0.000"),
        ("number", (None,), "–"),
        ("number", (float("nan"),), "–"),
        ("interval", (None, 1.0), ""),
        ("interval", (-1, 1, 1), "[−1.0, 1.0]"),
        ("p_value", (1e-9,), "< 0.001"),
        ("p_value", (0.05,), "0.050"),
        ("whole_percent", (0.25,), "25 %"),
        ("probability", (0.544,), "54 %"),
        ("probability", (0.9999,), "> 99 %"),
        ("probability", (None,), "–"),
        ("count", (4_198_400,), "4.20 M"),
        ("count", (43_646,), "43,646"),
        ("count", (12_345.6,), "12,346"),
        ("count", (37.5,), "37.5"),
        ("count", (37.0,), "37"),
        ("flops", (4e15,), "4.00 PFLOP"),
        ("duration", (8.2,), "8.2 s"),
        ("duration", (65,), "1 min 05 s"),
        ("duration", (17238,), "4 h 47 min"),
        ("rate", (2.5e-5,), "2.5e-5"),
        ("rate", (1e-3,), "1e-3"),
        ("heat", (-0.1,), 0),
        ("heat", (0.1, 0.2), 50),
        ("value_range", (-1, None), "−1 to ∞"),
        ("rank_interval", (1, 1, True, True), "1"),
        ("rank_interval", (1, 3, True, True), "1–3"),
        ("rank_interval", (None, None, False, True), "unranked"),
        ("rank_interval", (1, 2, True, False), "no rank"),
        ("rank_interval", (None, None, False, False), "no rank"),
    ],
)
def test_figures_in_words(word, given, shown):
    told = getattr(words, word)(*given)
    assert (told.en if isinstance(told, Text) else told) == shown


# ---- What a page carries.


@pytest.mark.parametrize(
    "text", ["</script>", "<!--<script>", "a&b", "줄\u2028바꿈\u2029", "\ud800", 'quote"\\', ""]
)
def test_island_is_inert_and_parses_back(text):
    island = json_island({"k": [text]})
    assert json.loads(island) == {"k": [text]}
    assert not set("<>&\u2028\u2029") & set(island)
    island.encode("utf-8")


def test_island_has_no_number_json_cannot_hold():
    island = json_island([float("nan"), float("inf"), 1.5, (2,)])
    assert json.loads(island) == [None, None, 1.5, [2]]


def test_script_text_cannot_end_its_element():
    source = "a = '</script><!-- <SCRIPT'; b = 1 < 2;"
    made = inline_script(source)
    assert "</script" not in made and "<!--" not in made and "<SCRIPT" not in made
    assert made.replace(r"\x3c", "<") == source


def test_policy_hash_is_that_of_the_standard():
    # echo -n "alert('Hello, world.');" | openssl dgst -sha256 -binary | base64, as on MDN.
    hashed = "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
    assert hashed in content_policy(["alert('Hello, world.');"])


def test_fonts_hold_the_glyphs_that_are_used_and_no_more(study, tmp_path):
    from fontTools.ttLib import TTFont

    folder = study.house / "report" / "fonts"
    full = TTFont(folder / REGULAR)
    assert all(code in full.getBestCmap() for code in range(0xAC00, 0xD7A4))
    # The licence reserves the original's names.
    assert (folder / "OFL.txt").read_text(encoding="utf-8").count("Reserved Font Name") >= 2
    assert full["name"].getDebugName(1) == FAMILY and "Nanum" not in FAMILY
    part = TTFont(io.BytesIO(subset_font(folder / REGULAR, {ord("뷁"), ord("A")}))).getBestCmap()
    assert {ord("뷁"), ord("A")} <= set(part) and ord("가") not in part
    faces = embedded_fonts(folder, ["파란 공"])
    assert [(face["family"], face["weight"]) for face in faces] == [
        (FAMILY, 400),
        (FAMILY, 700),
        (HANGUL_FAMILY, 400),  # alone, so that a browser makes bold Hangul of it
    ]
    assert sum(len(face["url"]) for face in faces) < 60_000
    with pytest.raises(StudyError, match="no such font"):
        embedded_fonts(tmp_path, ["가"])


# ---- Runs and charts.


def test_thinning_keeps_the_mean_and_the_order():
    x, y = np.arange(1, 1001, dtype=float), np.linspace(3, 1, 1000)
    a, b, size = runs.thin(x, y, points=50)
    assert size == 20 and len(a) == 50 and (np.diff(a) > 0).all()
    assert b.mean() == pytest.approx(y.mean()) and a[0] == pytest.approx(10.5)
    a, b, size = runs.thin(x[:7], y[:7], points=50)
    assert size == 1 and (a == x[:7]).all()
    a, _, size = runs.thin(x[:103], y[:103], points=50)  # a last bucket that is not full
    assert size == 3 and a[-1] == 103


def test_a_missing_log_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match=r"steps\.parquet: no such file"):
        runs.read_curve(tmp_path)


def test_a_stage_1_that_cells_share_costs_once():
    taken = {"wall_s": 2.0, "gpu_s": 1.0, "stage1_wall_s": 10.0, "stage1_gpu_s": 5.0}
    cells = [
        {**taken, "projector": label, "stage1_cell": parent, "peak_gpu_gb": peak, "device": "a"}
        for label, parent, peak in (("x", "s", 3.0), ("x", "s", 4.0), ("y", "t", None))
    ]
    x, y, everything = runs.costs([*cells, {"wall_s": None}])
    assert (x["runs"], x["wall"], x["gpu"], x["peak"]) == (2, 14.0, 7.0, 4.0)
    assert (y["wall"], y["peak"]) == (12.0, 0.0)
    assert everything == {
        **{"projector": "All", "runs": 3, "wall": 26.0, "gpu": 13.0, "peak": 4.0},
        "devices": {"a"},
    }


def test_tuning_grid_marks_chosen_and_leaves_holes():
    cells = (
        TuningCell("x", "p", 0.2, "grounded", 1e-3, 2),
        TuningCell("y", "p", -0.1, "collapsed", 3e-3, 4),
        TuningCell("z", "p", 0.3, "category_only", 3e-3, 4, verdict("linear")),
    )
    chosen = Selection("x", 0.2, "grounded", 3, 1, 1, ("z",), cells)
    (grid,) = runs.tuning_grids(StudySelection({"p": chosen}))
    assert grid["counted"].en == "1 of 3 settings collapsed, 1 category only"
    assert [said.en for said in grid["passed_over"]] == [
        f"z was passed over. {gate_reason(verdict('linear')).en}"
    ]
    assert grid["rates"] == [1e-3, 3e-3] and list(grid["rows"]) == ["2", "4"]
    (x,), none = grid["rows"]["2"]
    assert x["chosen"] and none == []
    assert [c["word"].en for c in grid["rows"]["4"][1]] == ["collapsed", "category only"]
    assert grid["rows"]["4"][1][0]["heat"] == 0


def test_tuning_grid_shows_every_seed_of_a_cell():
    told = replace(verdict("linear"), runs=(RunGate("grounded", Bounds(0.1, 0.0, 0.2, 0.0)),) * 2)
    cell = TuningCell("x", "p", 0.1, "grounded", 1e-3, 2, told, ("x", "x_seed_7"))
    (grid,) = runs.tuning_grids(
        StudySelection({"p": Selection("x", 0.1, "grounded", 1, 0, 0, (), (cell,))})
    )
    assert grid["seeds"].en == "2 tuning seeds, each below"
    assert grid["rows"]["2"][0][0]["runs"] == (0.1, 0.1)


def test_every_value_of_another_axis_has_a_row_of_its_own():
    cells = tuple(
        TuningCell(f"{r}{rate}", "p", 0.1 * r, "grounded", rate, 2, settings={"llm.lora.r": r})
        for r in (1, 2)
        for rate in (1e-3, 3e-3)
    )
    chosen = Selection("20.003", 0.2, "grounded", 4, 0, 0, (), cells)
    (grid,) = runs.tuning_grids(StudySelection({"p": chosen}))
    assert list(grid["rows"]) == ["r 1", "r 2"] and grid["has_settings"]
    assert [[c["value"] for c in place] for place in grid["rows"]["r 2"]] == [[0.2], [0.2]]
