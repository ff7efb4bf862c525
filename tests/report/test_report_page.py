"""The page: one inert, self-contained file that says what the numbers allow."""

import base64
import hashlib
import json
import re
from dataclasses import replace

import polars as pl
import pytest
from support.made_study import HOSTILE, HOSTILE_ID
from support.made_study.ranking import made_ranking, verdict
from support.page import Page, part

from siglip_study.base.errors import StudyError
from siglip_study.ranking.pairs import PairInfluence
from siglip_study.ranking.procedure import (
    Answer,
    Refusal,
    RetrievalBar,
    read_ranking,
    write_ranking,
)
from siglip_study.ranking.selection import StudySelection, read_selection, write_selection
from siglip_study.report.gallery import GallerySettings


@pytest.fixture(scope="module")
def parsed(page):
    return Page(page)


def test_hostile_text_makes_no_element_and_no_handler(parsed):
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"iframe", "object", "embed"}
    images = [attrs for tag, attrs in parsed.elements if tag == "img"]
    assert len(images) == 3 and all(set(own) >= {"src", "alt"} for own in images)
    handlers = [name for _, attrs in parsed.elements for name in attrs if name.startswith("on")]
    assert handlers == []
    # Shown as text, not swallowed.
    assert HOSTILE in parsed.text
    assert "broken<i>" in parsed.text


def test_islands_parse_back_with_hostile_text_unchanged(parsed):
    assert set(parsed.islands) == {"data-clips"}
    (clip,) = (own for own in parsed.clips if own[0] == HOSTILE_ID)
    references, said = clip[4], clip[-1]
    assert references == [HOSTILE]
    assert said[0][0][0] == HOSTILE


def test_nothing_points_outside_the_file(parsed, page):
    places = ("src", "href", "action", "data", "srcset", "poster", "xlink:href")
    targets = [attrs[name] for _, attrs in parsed.elements for name in places if name in attrs]
    inside = ("#", "data:image/webp;base64,", "data:application/yaml;base64,")
    assert [target for target in targets if not target.startswith(inside)] == []
    style = page[page.index("<style>") : page.index("</style>")]
    assert set(re.findall(r"url\(\"?(\w+:)", style)) == {"data:"} and "@import" not in style


def test_the_policy_forbids_network_and_eval_and_names_every_script(parsed):
    policy = next(a["content"] for t, a in parsed.elements if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert "unsafe" not in rules["script-src"] and "http" not in policy
    for source in parsed.scripts:
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules["script-src"]


PARTS = ["answer", "clips", "evidence", "runs", "reproduce"]


def test_five_parts_and_the_links_to_them(parsed):
    assert [attrs["id"] for tag, attrs in parsed.elements if tag == "section"] == PARTS
    ids = {attrs["id"] for _, attrs in parsed.elements if "id" in attrs}
    links = [
        attrs["href"][1:]
        for tag, attrs in parsed.elements
        if tag == "a" and "download" not in attrs
    ]
    assert links[1:6] == PARTS and set(links) <= ids
    assert {link for link in links if link.startswith("term-")}


def test_no_two_elements_share_an_id(parsed):
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_every_special_term_of_the_first_screen_has_its_meaning_at_hand(page):
    table = part(page, "answer").split('class="lines"')[1]
    head = table.split("<thead>")[1].split("</thead>")[0]
    assert head.count("<th") - 1 == head.count('class="tip" role="tooltip"') == 10


@pytest.mark.parametrize(
    "said",
    [
        "mlp_2l and linear cannot be told apart; c_abstractor cannot be first.",
        "unranked",
        "Shown to beat copying the nearest training caption: mlp_2l.",
        "Trained on noise",
        "as it must",
        "METEOR gain higher is better, −1 to 1 , kiwi content",
        "Largest group alike lower is better, 0 to 1",
        "no model is configured",
        "snakemake --cores 1",
    ],
)
def test_figures_and_their_meaning_are_text(parsed, said):
    assert said in parsed.text


def test_nothing_must_be_hovered_over(page):
    assert " title=" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


# ---- Other results of the same study.

INFLUENCE = PairInfluence(
    "linear", "mlp_2l", -0.012, HOSTILE, 0.01, 0.04, 0.2, "v", ("v",), claimed=True
)
BLIND = replace(made_ranking(["linear"], 2).scorer, can_tell=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"answer": Answer("refused", refusal=Refusal("one_seed"))},
            "No order can be claimed: there is one run each, so the difference",
        ),
        ({"scorer": BLIND}, "The scorer cannot tell; no verdict: "),
        ({"retrieval": RetrievalBar(0.2, ())}, "No projector is shown to beat copying"),
        ({"influence": (INFLUENCE,)}, "A single source video decides the pair"),
        ({"influence": (INFLUENCE,)}, f"without '{HOSTILE}'"),
        ({"influence": (INFLUENCE,)}, "linear − mlp_2l 0.0100 0.0400 −0.0120"),
    ],
)
def test_another_ranking_is_told(study, parsed, table_file, changes, said):
    path = table_file("ranking.json")
    write_ranking(path, replace(read_ranking(path), **changes))
    assert said in Page(study.report()).text
    assert said not in parsed.text


def test_a_study_without_trained_controls_says_so(study, parsed, table_file):
    path = table_file("cells.parquet")
    trained = ["control_blind", "control_noise", "control_permuted", "control_hot"]
    pl.read_parquet(path).filter(~pl.col("role").is_in(trained)).write_parquet(path)
    assert "This study trained none" in Page(study.report()).text
    assert "This study trained none" not in parsed.text


def test_who_was_passed_over_stands_in_the_tuning_grid_with_the_reason(study, page, table_file):
    path = table_file("selection.json")
    told = dict(read_selection(path).projectors)
    loud, *others = told["linear"].cells
    refused = replace(verdict("linear"), verdict="category_only")
    loud = replace(loud, gate="category_only", verdict=refused)
    cells = (loud, *others)
    told["linear"] = replace(
        told["linear"], n_category_only=1, passed_over=(loud.cell,), cells=cells
    )
    write_selection(path, StudySelection(told))
    before, after = (part(html, "runs") for html in (page, study.report()))
    assert "0 of 4 settings collapsed, 1 category only" in after
    assert f"{loud.cell} was passed over. Category only: " in after
    assert after.count("struck") == before.count("struck") + 1
    assert "passed over. " not in before and ">category only</span>" not in before


def test_published_rows_stand_apart(study, tmp_path):
    path = tmp_path / "published_runs.json"
    run = {
        "id": "E5-v2",
        "projector": "query_abstractor",
        "projector_params": 205840384,
        "stage2": {"siglip": [0.1], "diversity": [0.11], "finished": True},
        "final": {},
    }
    path.write_text(json.dumps({"runs": [run]}))
    text = Page(study.report(published=path)).text
    assert "As published, not re-measured" in text and "Collapsed by diversity alone" in text
    assert "0.11 distinct captions a clip against a limit of 0.50" in text
    assert "Human captions measured here" in text
    path.write_text('{"runs": [{"id": 1}]}')
    with pytest.raises(StudyError, match="expected published runs"):
        study.report(published=path)


# ---- Bytes.


def test_the_page_keeps_to_its_bytes_by_showing_fewer_pictures_then_fewer_clips(study, page):
    without = len(study.report(gallery=GallerySettings()).encode())
    for limit in (len(page.encode()) - 40_000, without - 2_000):
        settings = GallerySettings(pictures=lambda clip: study.sheet, page_bytes=limit)
        html = study.report(gallery=settings)
        assert len(html.encode()) <= limit
        told = Page(html)
        pictured = sum(own is not None for own in told.islands["data-clips"]["pictures"])
        assert pictured < 24
        assert (len(told.clips) == 24) == (limit > without)
    with pytest.raises(StudyError, match="without its gallery"):
        study.report(gallery=GallerySettings(page_bytes=1000))
