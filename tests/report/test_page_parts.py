"""Small parts of the report: islands, words, curves, gallery and fonts."""

import io
import json
from importlib.metadata import version

import numpy as np
import polars as pl
import pytest
from support.made_study.ranking import verdict

from siglip_study.base.errors import StudyError
from siglip_study.ranking.selection import Selection, StudySelection, TuningCell
from siglip_study.report import runs, words
from siglip_study.report.charts import scatter_chart
from siglip_study.report.embed import (
    REGULAR,
    content_policy,
    embedded_fonts,
    inline_script,
    json_island,
    subset_font,
)
from siglip_study.report.gallery import (
    GallerySettings,
    gallery_island,
    gallery_order,
    jpeg_thumbnails,
)
from siglip_study.report.glossary import metric_heading, metric_rows
from siglip_study.report.results import CellResult
from siglip_study.report.runs import tuning_grids
from siglip_study.report.wording import gate_reason
from siglip_study.scoring.score_captions import metric_metadata


@pytest.mark.parametrize(
    "text", ["</script>", "<!--<script>", "a&b", "줄\u2028바꿈\u2029", "\ud800", 'quote"\\', ""]
)
def test_island_is_inert_and_parses_back(text):
    island = json_island({"k": [text]})
    assert json.loads(island) == {"k": [text]}
    assert not set("<>&\u2028\u2029") & set(island)
    island.encode("utf-8")


def test_island_has_no_number_json_cannot_hold():
    assert json.loads(json_island([float("nan"), float("inf"), 1.5, (2,)])) == [
        None,
        None,
        1.5,
        [2],
    ]


def test_script_text_cannot_end_its_element():
    source = "a = '</script><!-- <SCRIPT'; b = 1 < 2;"
    made = inline_script(source)
    assert "</script" not in made and "<!--" not in made and "<SCRIPT" not in made
    assert made.replace(r"\x3c", "<") == source


def test_policy_hash_is_that_of_the_standard():
    # echo -n "alert('Hello, world.');" | openssl dgst -sha256 -binary | base64, as on MDN.
    assert "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='" in content_policy(
        ["alert('Hello, world.');"]
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.12345, "0.123"), (-0.5, "−0.500"), (-1e-9, "0.000"), (None, "–"), (float("nan"), "–")],
)
def test_number(value, shown):
    assert words.number(value) == shown


@pytest.mark.parametrize(
    ("low", "high", "ranked", "can_rank", "shown"),
    [(1, 1, True, True, "1"), (1, 3, True, True, "1–3"), (None, None, False, True, "unranked"),
     (1, 2, True, False, "no rank"), (None, None, False, False, "no rank")],
)  # fmt: skip
def test_rank_words(low, high, ranked, can_rank, shown):
    assert words.rank_interval(low, high, ranked, can_rank) == shown


def test_other_words():
    assert words.count(4_198_400) == "4.20 M" and words.count(43_646) == "43,646"
    assert words.duration(17238) == "4 h 47 min" and words.duration(8.2) == "8.2 s"
    assert words.duration(65) == "1 min 05 s" and words.p_value(1e-9) == "< 0.001"
    assert words.rate(2.5e-5) == "2.5e-5" and words.rate(1e-3) == "1e-3"
    assert words.interval(None, 1.0) == "" and words.interval(-1, 1, 1) == "[−1.0, 1.0]"


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


def test_gallery_order_is_not_the_order_of_entry():
    ids = [f"clip_{i}" for i in range(50)]
    assert gallery_order(ids) == gallery_order(ids[::-1]) != ids


def clip_rows(n, caption="말"):
    return [
        {
            "cell": "a",
            "id": f"c{i}",
            "caption": caption,
            "grounding_margin": 0.1,
            "truncated": False,
        }
        for i in range(n)
    ]


def test_gallery_budgets_bound_text_and_pictures():
    columns = [{"cell": "a", "label": "a", "seed": 1}]
    settings = GallerySettings(frames={f"c{i}": [b"x" * 300] for i in range(9)},
                               picture_bytes=1000, text_bytes=10**6)  # fmt: skip
    island = gallery_island([], clip_rows(10), columns, settings)
    assert island["pictured"] == 2 and island["shown"] == island["total"] == 10
    island = gallery_island(
        [], clip_rows(10, "말" * 500), columns, GallerySettings(text_bytes=5000)
    )
    assert island["shown"] == 3 and len(json_island(island["clips"]).encode()) < 5100
    assert gallery_island([], [], columns, settings)["shown"] == 0


def test_a_clip_that_a_cell_lacks_is_shown_as_absent():
    columns = [{"cell": "a", "label": "a", "seed": 1}, {"cell": "b", "label": "b", "seed": 1}]
    island = gallery_island([], clip_rows(1), columns, GallerySettings())
    assert island["clips"][0]["captions"] == [["말", 0.1, False], None]


def test_thumbnails_are_small_jpegs_of_the_same_shape():
    from PIL import Image

    frames = np.random.default_rng(0).integers(0, 255, (2, 240, 320, 3), dtype=np.uint8)
    files = jpeg_thumbnails(frames, width=80)
    sizes = [Image.open(io.BytesIO(file)).size for file in files]
    assert sizes == [(80, 60)] * 2 and all(file[:2] == b"\xff\xd8" for file in files)
    assert Image.open(io.BytesIO(jpeg_thumbnails(frames[:1, :4, :4], width=80)[0])).size == (4, 4)


def test_tuning_grid_marks_chosen_and_leaves_holes():
    cells = (
        TuningCell("x", "p", 0.2, "grounded", 1e-3, 2),
        TuningCell("y", "p", -0.1, "collapsed", 3e-3, 4),
        TuningCell("z", "p", 0.3, "category_only", 3e-3, 4, verdict("linear")),
    )
    chosen = Selection("x", 0.2, "grounded", 3, 1, 1, ("z",), cells)
    (grid,) = tuning_grids(StudySelection({"p": chosen}))
    assert grid["counted"] == "1 of 3 cells collapsed, 1 category only"
    assert grid["passed_over"] == [f"z was passed over. {gate_reason(verdict('linear'))}"]
    assert [c["word"] for c in grid["rows"][1]["cells"][1]] == ["collapsed", "category only"]
    assert grid["rates"] == ["1e-3", "3e-3"]
    assert [r["epochs"] for r in grid["rows"]] == ["2", "4"]
    assert grid["rows"][0]["cells"][0][0]["chosen"]
    assert grid["rows"][0]["cells"][1] == []
    assert grid["rows"][1]["cells"][1][0]["heat"] == 0


def test_fonts_hold_the_glyphs_that_are_used_and_no_more(study):
    from fontTools.ttLib import TTFont

    from siglip_study.report.embed import FAMILY

    folder = study.house / "report" / "fonts"
    assert (folder / "OFL.txt").read_text(encoding="utf-8").count("Reserved Font Name") >= 2
    full = TTFont(folder / REGULAR)
    assert all(code in full.getBestCmap() for code in range(0xAC00, 0xD7A4))
    # The licence reserves the original's names.
    assert (
        "Nanum" not in str(full["name"].getDebugName(1)) and full["name"].getDebugName(1) == FAMILY
    )
    part = TTFont(io.BytesIO(subset_font(folder / REGULAR, {ord("뷁"), ord("A")})))
    assert {ord("뷁"), ord("A")} <= set(part.getBestCmap()) and ord("가") not in part.getBestCmap()
    faces = embedded_fonts(folder, ["파란 공"])
    assert [face["weight"] for face in faces] == [400, 700]
    assert sum(len(face["url"]) for face in faces) < 60_000


def test_a_missing_font_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="no such font"):
        embedded_fonts(tmp_path, ["가"])


def test_frames_of_rows_conform():
    from siglip_study.report import schema

    table = schema.conform("rejected", pl.DataFrame({"reason": ["x"], "extra": [1]}))
    assert table.columns == ["id", "path", "reason"] and table["id"].to_list() == [None]


@pytest.mark.parametrize(
    ("language", "name", "tokens"),
    [
        ("ko", "meteor_gain", "kiwipiepy content morphemes"),
        ("ko", "cider_gain", "kiwipiepy morphemes"),
        ("ko", "distinct_2", "kiwipiepy morphemes"),
        ("ko", "self_bleu", "kiwipiepy morphemes"),
        ("ko", "meteor_characters", "characters"),
        ("ko", "meteor_words", "white space"),
        ("en", "meteor_gain", "words without punctuation"),
        ("en", "cider_gain", "words"),
        ("ko", "bertscore_f1", ""),
        ("ko", "grounding_margin", ""),
    ],
)
def test_a_column_names_its_tokens_and_the_glossary_their_version(language, name, tokens):
    told = {"metrics": metric_metadata([name], language), "values": {}}
    cell = CellResult("a", "report", told)
    assert metric_heading(name, [cell])["tokens"] == tokens
    (row,) = metric_rows([cell])
    assert tokens.split(" ")[0] in (row["tokenizer"] or "")
    if tokens.startswith("kiwipiepy"):
        assert version("kiwipiepy") in row["tokenizer"]


def test_names_that_would_cover_each_other_share_one_text():
    points = [("A", 0.02, 0.024), ("B", 0.03, 0.026), ("C", 0.9, 0.025), ("", 1.0, 1.0)]
    rows = [
        {
            "projector": "a",
            "name": n,
            "label": n,
            "state": "control",
            "effective_captions": x,
            "D": y,
        }
        for n, x, y in points
    ]
    shown = json.dumps(scatter_chart(rows, ["a"], "D", "D"))
    assert '"label": "A, B"' in shown and '"label": "C"' in shown
