"""The page: one inert, self-contained file that says what the numbers allow."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest
from support.made_study import HOSTILE, HOSTILE_ID

from siglip_study.base.errors import StudyError
from siglip_study.ranking.pairs import PairInfluence
from siglip_study.ranking.procedure import (
    Answer,
    Refusal,
    RetrievalBar,
    read_ranking,
    write_ranking,
)
from siglip_study.report.gallery import GallerySettings


class Page(HTMLParser):
    """Elements, their attributes, visible text, and scripts by kind."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.scripts, self.islands = [], [], [], {}
        self._script = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag == "script":
            self._script = attrs

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.text.append(data)
        elif self._script.get("type") == "application/json":
            self.islands[self._script["id"]] = json.loads(data)
        else:
            self.scripts.append(data)


@pytest.fixture(scope="module")
def parsed(page):
    return Page(page)


def text_of(parsed):
    return " ".join(" ".join(parsed.text).split())


def test_hostile_text_makes_no_element_and_no_handler(parsed, study):
    assert not [tag for tag, _ in parsed.elements if tag in ("img", "iframe", "object", "embed")]
    for tag, attrs in parsed.elements:
        assert not [name for name in attrs if name.startswith("on")], (tag, attrs)
    text = text_of(parsed)
    assert HOSTILE in text  # shown as text, not swallowed
    assert "broken<i>" in text


def test_islands_parse_back_with_hostile_text_unchanged(parsed, study):
    gallery = parsed.islands["data-gallery"]
    clip = next(c for c in gallery["clips"] if c["id"] == HOSTILE_ID)
    assert clip["references"] == [HOSTILE]
    assert clip["captions"][0][0] == HOSTILE
    assert set(parsed.islands) == {"data-gallery", "data-specs", "data-curves"}


def test_nothing_points_outside_the_file(parsed, page):
    for tag, attrs in parsed.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster", "xlink:href"):
            if name in attrs:
                assert attrs[name].startswith("#"), (tag, attrs)
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


def test_every_section_and_its_link(parsed):
    ids = {attrs["id"] for tag, attrs in parsed.elements if tag == "section"}
    links = {attrs["href"][1:] for tag, attrs in parsed.elements if tag == "a"} - {"main"}
    assert links == ids
    assert ids == {
        "ranking",
        "trust",
        "ledger",
        "sensitivity",
        "truth",
        "diagnosis",
        "curves",
        "diversity",
        "tuning",
        "gallery",
        "rejected",
        "glossary",
        "provenance",
    }


def test_headline_says_verdict_intervals_and_the_human_scale(parsed):
    text = text_of(parsed)
    assert "mlp_2l and linear cannot be told apart; c_abstractor cannot be first." in text
    assert "human 0.1800" in text and "[0.1050, 0.1350]" in text
    assert "Collapsed" in text and "unranked" in text
    assert "Clears the retrieval baseline." in text and "Cleared by mlp_2l." in text


def test_controls_glossary_and_provenance_are_text_not_hover(parsed, page):
    text = text_of(parsed)
    for words in (
        "Noise features",
        "Gate: Collapsed: effective captions are",
        "as expected",
        "higher is better",
        "kiwi content morphemes",
        "no model configured",
        "snakemake --cores 1",
    ):
        assert words in text
    assert " title=" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_charts_hold_their_figures(parsed):
    specs = parsed.islands["data-specs"]
    assert set(specs) >= {
        "ranking",
        "scatter-grounding",
        "scatter-siglip",
        "curve-stage1",
        "curve-stage2",
        "curve-diversity",
    }
    shown = json.dumps(specs["scatter-grounding"])
    assert "collapsed" in shown and "tuning run" in shown and "http" not in json.dumps(specs)
    curves = parsed.islands["data-curves"]
    assert len(curves["cells"]) == 27 and all(len(c["stage2"]["loss"]) for c in curves["cells"])


def changed(study, **changes):
    """The study's report of another ranking."""
    path = study.root / "tables/ranking.json"
    kept = path.read_bytes()
    try:
        write_ranking(path, dataclasses.replace(read_ranking(path), **changes))
        return text_of(Page(study.report()))
    finally:
        path.write_bytes(kept)


def test_without_ranks_it_says_so_at_the_top(study):
    text = changed(study, answer=Answer("refused", refusal=Refusal("one_seed")))
    assert "No ranks are claimed. There is one run each, so the difference" in text
    assert text.index("No ranks are claimed") < text.index("Grounding D")


def test_a_blind_scorer_gives_no_verdict(study):
    scorer = read_ranking(study.root / "tables/ranking.json").scorer
    text = changed(study, scorer=dataclasses.replace(scorer, can_tell=False))
    assert "The scorer cannot tell; no verdict can be drawn from it." in text


def test_no_projector_clears_the_bar(study):
    assert "No projector clears it" in changed(study, retrieval=RetrievalBar(0.2, ()))


def test_a_study_without_trained_controls_says_so(study, parsed):
    path = study.root / "tables/cells.parquet"
    kept = path.read_bytes()
    trained = ["control_blind", "control_noise", "control_permuted", "control_hot"]
    try:
        pl.read_parquet(path).filter(~pl.col("role").is_in(trained)).write_parquet(path)
        assert "This study trained none" in text_of(Page(study.report()))
    finally:
        path.write_bytes(kept)
    assert "This study trained none" not in text_of(parsed)


def test_influence_of_one_video_is_told(study):
    bounds = (-0.012, HOSTILE, 0.01, 0.04)
    text = changed(
        study, influence=(PairInfluence("linear", "mlp_2l", *bounds, 0.2, "v", ("v",), True),)
    )
    assert "A single source video decides the pair" in text
    assert f"without '{HOSTILE}'" in text
    assert "−0.0120" in text
    assert "Does one source video decide?" not in changed(study, influence=())


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
    text = text_of(Page(study.report(published=path)))
    assert "As published, not re-measured" in text and "Collapsed by diversity alone" in text
    # Ours by the same recipes stand below; the distinct ratio of people is 1.
    assert "0.11 distinct captions a clip against a limit of 0.50" in text
    assert "Human references measured here" in " ".join(text.split())
    path.write_text('{"runs": [{"id": 1}]}')
    with pytest.raises(StudyError, match="expected published runs"):
        study.report(published=path)


def test_the_page_keeps_to_its_bytes_by_showing_fewer_clips(study, page):
    limit = len(page.encode()) - 40_000
    html = study.report(
        gallery=GallerySettings(frames=lambda clip: study.pictures, page_bytes=limit)
    )
    assert len(html.encode()) <= limit
    gallery = Page(html).islands["data-gallery"]
    assert gallery["pictured"] < gallery["shown"] <= gallery["total"] == 24


def test_a_page_that_cannot_fit_is_an_error(study):
    with pytest.raises(StudyError, match="without its gallery"):
        study.report(gallery=dataclasses.replace(GallerySettings(), page_bytes=1000))


def test_headings_name_direction_range_and_tokens(parsed):
    text = " ".join(text_of(parsed).split())
    assert "METEOR gain higher is better, −1 to 1 kiwi content morphemes human 0.420" in text
    assert "Top cluster lower is better, 0 to 1" in text
