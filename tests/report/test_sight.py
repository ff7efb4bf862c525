"""What stands between a score and sight, in the tables and on the page."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from siglip_study.base.io import read_json, write_json, write_parquet
from siglip_study.demo.captions import caption
from siglip_study.demo.world import facts, sample_scene
from siglip_study.ranking.orders import check_order, facts_score
from siglip_study.ranking.pairs import PairTest
from siglip_study.ranking.procedure import read_ranking
from siglip_study.report import wording
from siglip_study.report.beyond_category import sight
from siglip_study.report.results import read_cells
from siglip_study.report.tables import build_tables, read_table


def adversary(root, name, margin, within, raw, top):
    """A pseudo-cell beside the retrieval baseline, with figures by hand."""
    source, folder = root / "baselines" / "retrieval", root / "baselines" / name
    folder.mkdir()
    metrics = read_json(source / "metrics.json", "metrics/1")
    values = {
        "grounding_margin": margin,
        "grounding_margin_within": within,
        "siglip_cosine": raw,
        "effective_captions": top,
        "top_cluster_share": top,
    }
    beside = {"low": None, "high": None, "reference": None, "chance": None}
    for key, value in values.items():
        metrics["values"][key] = {"value": value, **beside}
    told = {**metrics, "cell": name, "role": f"control_{name}"}
    write_json(folder / "metrics.json", told, "metrics/1")
    clips = pl.read_parquet(source / "clips.parquet")
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, len(clips)) if margin else np.zeros(len(clips))
    write_parquet(
        folder / "clips.parquet",
        clips.with_columns(cell=pl.lit(name), grounding_margin=pl.Series(margin + noise)),
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory, make_study):
    made = make_study(tmp_path_factory.mktemp("sight"))
    root, cells = made.root, dict(made.cells)
    adversary(root, "generic", 0.0, 0.0, 9.0, 0.99)
    adversary(root, "category", 0.05, 0.0, 0.2, 0.3)
    cells |= {"control_generic": ["generic"], "control_category": ["category"]}
    name = cells["report"][0]
    records = [
        {"id": None, "split": "report", "condition": c, "caption": f"<b>{c}</b>", "n_tokens": 1}
        for c in ("blind", "mean")
    ]
    write_json(root / "runs" / name / "captions.json", {"records": records}, "captions/1")
    build_tables(root, cells)

    def view():
        found = read_cells(root, cells)
        ranking = read_ranking(root / "tables" / "ranking.json")
        return sight(root, ranking, read_table(root, "controls"), found)

    return SimpleNamespace(root=root, view=view, page=made.report(), name=name)


def test_the_raw_score_of_one_caption_for_all_is_told_beside_its_margin(told):
    sentence = told.view()["generic"]
    assert "SigLIP cosine of 9.000" in sentence and "its D is 0.0000" in sentence
    assert "above that of 11 of 11 trained runs" in sentence and "collapsed" in sentence
    assert sentence in told.page


def test_what_knows_the_category_alone_is_a_bar(told):
    sentence = told.view()["category"]
    assert "D 0.0500, of which 0.0000 within" in sentence
    shown, rest = sentence.split("Shown to exceed it: ")[1].split(" Not shown to: ")
    # Skills of the made-up projectors: .16, .10, .05 and 0.
    assert "mlp_2l" in shown and "query_perceiver" in rest


def test_adversaries_are_gated_and_judged_in_the_controls_table(told):
    rows = {(row["cell"], row["metric"]): row for row in read_table(told.root, "controls")}
    generic = rows["generic", "grounding_margin"]
    assert generic["gate"] == "collapsed" and generic["as_expected"] is True
    assert rows["category", "grounding_margin_within"]["as_expected"] is True
    assert "category" in rows["category", "grounding_margin_within"]["expectation"]


def test_clips_compared_within_a_category_are_those_that_have_a_figure(tmp_path, make_study):
    """A category of many clips may have too few in each half of a held-out split."""
    made = make_study(tmp_path, projectors=2, clips=6)
    clips = made.root / "baselines" / "references" / "clips.parquet"
    table = pl.read_parquet(clips).sort("id")
    known = pl.Series([0.1, 0.2, 0.3, None, None, None])
    kinds = pl.Series(["a"] * 6)
    write_parquet(clips, table.with_columns(category=kinds, grounding_margin_within=known))
    adversary(made.root, "generic", 0.0, 0.0, 9.0, 0.99)
    cells = made.cells | {"control_generic": ["generic"]}
    build_tables(made.root, cells)
    ranking = read_ranking(made.root / "tables" / "ranking.json")
    view = sight(
        made.root, ranking, read_table(made.root, "controls"), read_cells(made.root, cells)
    )
    assert view["negatives_note"] == "3 of 6 clips, in 1 category of 3 or more."


def test_what_is_said_without_a_video_is_text(told):
    (row,) = told.view()["unseeing"]
    assert (row["blind"], row["mean"]) == ("<b>blind</b>", "<b>mean</b>")
    assert "&lt;b&gt;blind&lt;/b&gt;" in told.page and "<b>blind</b>" not in told.page


def test_facts_that_are_not_known_contradict_nothing(told):
    assert told.view()["truth_order"] is None
    assert "D against the facts" not in told.page


# --- the order of the facts --------------------------------------------------------------------


def truths(n, seed=0):
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, "clips") for _ in range(n)]
    return [facts(s) for s in scenes], [caption(s, rng, style="clips") for s in scenes]


def margin(a: str, b: str, difference: float, p: float | None) -> PairTest:
    """A pair's test of D; of one seed p is unknown."""
    significant = p is not None and p <= 0.05
    return PairTest(a, b, difference, None, None, p, p, None, None, significant)


def test_a_clips_share_averages_to_the_mean_kappa():
    from siglip_study.scoring.score_files import truth_of

    known, said = truths(50)
    said = said[:25] + said[:25]
    kappas = [k["kappa"] for k in truth_of(said, known).values()]
    assert facts_score(said, known).mean() == pytest.approx(np.mean(kappas))
    assert facts_score(truths(50)[1], known).mean() > 0.9


@pytest.mark.parametrize(
    ("difference", "p", "word", "field"),
    [
        (0.1, 0.001, "contradicts none", "agree"),
        (-0.1, 0.001, "CONTRADICTS", "contradict"),
        (-0.1, 0.5, "within its error", "reversed_only"),
        (-0.1, None, "within its error", "reversed_only"),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_a_margin_against_the_facts_is_told(difference, p, word, field, flip):
    rng = np.random.default_rng(1)
    kappas = {
        "knows": 0.8 + rng.normal(0, 0.05, (3, 40)),
        "guesses": 0.2 + rng.normal(0, 0.05, (3, 40)),
    }
    pair = (
        margin("guesses", "knows", -difference, p)
        if flip
        else margin("knows", "guesses", difference, p)
    )
    found = check_order(kappas, [pair])
    assert word in wording.truth_order(found)
    assert getattr(found, field) == found.told == (("knows", "guesses"),)


def test_facts_that_tell_nobody_apart_contradict_nobody():
    rng = np.random.default_rng(2)
    kappas = {name: rng.normal(0, 1, (3, 10)) for name in "ab"}
    found = check_order(kappas, [margin("a", "b", 0.1, 0.001)])
    assert found.told == ()
    assert wording.truth_order(found).endswith(
        "tell none of 1 pairs of projectors apart, and so contradict nothing."
    )
