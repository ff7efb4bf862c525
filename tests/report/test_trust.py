"""What stands between a score and sight, in the tables and on the page."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from support.page import Page

from siglip_study.base.errors import Damaged
from siglip_study.base.io import read_json, write_digest, write_json, write_parquet
from siglip_study.demo.captions import caption
from siglip_study.demo.world import ATTRIBUTES, GRAINS, facts, sample_scene
from siglip_study.ranking.orders import check_order, facts_score
from siglip_study.ranking.pairs import PairTest
from siglip_study.ranking.procedure import read_ranking
from siglip_study.report.gallery import GallerySettings, read_gallery
from siglip_study.report.grain import grain_view
from siglip_study.report.results import read_cells
from siglip_study.report.tables import build_tables, read_table
from siglip_study.report.trust import beyond_category
from siglip_study.report.wording.claims import truth_order
from tools.fault_campaign import flip


def adversary(root, name, margin, within, raw, top):
    """A captioner beside the retrieval baseline, with figures by hand."""
    source, folder = root / "baselines" / "retrieval", root / "baselines" / name
    metrics = read_json(source / "metrics.json", "metrics/1")
    values = {
        "standardised_margin": margin,
        "standardised_margin_within": within,
        "siglip_cosine": raw,
        "effective_captions": top,
        "top_cluster_share": top,
    }
    metrics["values"] |= {key: {"value": value} for key, value in values.items()}
    told = {**metrics, "cell": name, "role": f"control_{name}"}
    write_json(folder / "metrics.json", told, "metrics/1")
    clips = pl.read_parquet(source / "clips.parquet")
    noise = np.random.default_rng(0).normal(0, 0.01 if margin else 0.0, len(clips))
    table = clips.with_columns(cell=pl.lit(name), standardised_margin=pl.Series(margin + noise))
    write_parquet(folder / "clips.parquet", table)


def view(root, cells):
    """The view of a study whose tables are built."""
    ranking = read_ranking(root / "tables" / "ranking.json")
    return beyond_category(root, ranking, read_table(root, "controls"), read_cells(root, cells))


@pytest.fixture(scope="module")
def told(tmp_path_factory, make_study):
    made = make_study(tmp_path_factory.mktemp("sight"))
    root, cells = made.root, dict(made.cells)
    adversary(root, "generic", 0.0, 0.0, 9.0, 0.99)
    adversary(root, "category", 0.05, 0.0, 0.2, 0.3)
    cells |= {"control_generic": ["generic"], "control_category": ["category"]}
    records = [
        {"id": None, "split": "report", "condition": c, "caption": f"<b>{c}</b>"}
        | {"n_tokens": 1, "truncated": False}
        for c in ("blind", "mean")
    ]
    path = root / "runs" / cells["report"][0] / "captions.json"
    write_json(path, {"records": records}, "captions/1")
    build_tables(root, cells)
    return SimpleNamespace(root=root, view=view(root, cells), page=made.report())


def test_the_raw_score_of_one_caption_for_all_is_told_beside_its_margin(told):
    sentence = told.view["generic"].en
    assert "SigLIP cosine of 9 (" in sentence and "its M is 0," in sentence
    assert "above that of 11 of 11 trained runs" in sentence and "collapsed" in sentence
    assert sentence in Page(told.page).text


def test_what_knows_the_category_alone_is_a_bar(told):
    sentence = told.view["category"].en
    assert "M 0.0500, of which 0 within" in sentence
    shown, rest = sentence.split("Shown to exceed it: ")[1].split(" Not shown to: ")
    # Skills of the made-up projectors: .16, .10, .05 and 0.
    assert "mlp_2l" in shown and "query_perceiver" in rest


def test_adversaries_are_gated_and_judged_in_the_controls_table(told):
    rows = {(row["cell"], row["metric"]): row for row in read_table(told.root, "controls")}
    generic = rows["generic", "standardised_margin"]
    assert generic["gate"] == "collapsed" and generic["as_expected"] is True
    within = rows["category", "standardised_margin_within"]
    assert within["as_expected"] is True and "category" in within["expectation"]


def test_clips_compared_within_a_category_are_those_that_have_a_figure(tmp_path, make_study):
    """A category of many clips may have too few in each half of a held-out split."""
    made = make_study(tmp_path, projectors=2, clips=6)
    clips = made.root / "baselines" / "references" / "clips.parquet"
    known = pl.Series([0.1, 0.2, 0.3, None, None, None])
    table = pl.read_parquet(clips).sort("id")
    write_parquet(clips, table.with_columns(category=pl.lit("a"), standardised_margin_within=known))
    adversary(made.root, "generic", 0.0, 0.0, 9.0, 0.99)
    cells = made.cells | {"control_generic": ["generic"]}
    build_tables(made.root, cells)
    assert (
        view(made.root, cells)["negatives_note"].en == "3 of 6 clips, in 1 category of 3 or more."
    )


def test_a_damaged_table_of_clips_is_not_read(tmp_path, make_study):
    made = make_study(tmp_path, projectors=2, clips=6)
    build_tables(made.root, made.cells)
    write_digest(table := made.root / "tables" / "clips.parquet")
    flip(table)
    for reader in (
        lambda: view(made.root, made.cells),
        lambda: read_gallery(made.root, [], [], GallerySettings()),
    ):
        with pytest.raises(Damaged, match=r"clips\.parquet: damaged"):
            reader()


def test_what_is_said_without_a_video_is_text(told):
    (said,) = told.view["blind_captions"].values()
    assert said == {"blind": "<b>blind</b>", "mean": "<b>mean</b>"}
    assert "&lt;b&gt;blind&lt;/b&gt;" in told.page and "<b>blind</b>" not in told.page


def test_facts_that_are_not_known_contradict_nothing(told):
    assert told.view["truth_order"] is None
    assert "D against the facts" not in told.page


# ---- The order of the facts.


def pair(a, b, difference, p):
    """A pair's test of D; of one seed p is unknown."""
    significant = p is not None and p <= 0.05
    return PairTest(a, b, difference, None, None, p, p, None, None, significant)


def test_a_clips_share_averages_to_the_mean_kappa():
    from siglip_study.scoring.score_files import truth_of

    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, "clips") for _ in range(50)]
    known = [facts(scene) for scene in scenes]
    said = [caption(scene, rng, style="clips") for scene in scenes]
    assert facts_score(said, known).mean() > 0.9
    half_right = said[:25] + said[:25]
    kappas = [k["kappa"] for k in truth_of(half_right, known).values()]
    assert facts_score(half_right, known).mean() == pytest.approx(np.mean(kappas))


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
    names, sign = (("guesses", "knows"), -1) if flip else (("knows", "guesses"), 1)
    found = check_order(kappas, [pair(*names, sign * difference, p)])
    assert word in truth_order(found).en
    assert getattr(found, field) == found.told == (("knows", "guesses"),)


def test_facts_that_tell_nobody_apart_contradict_nobody():
    rng = np.random.default_rng(2)
    kappas = {name: rng.normal(0, 1, (3, 10)) for name in "ab"}
    found = check_order(kappas, [pair("a", "b", 0.1, 0.001)])
    assert found.told == ()
    assert "none of 1 pairs" in truth_order(found).en


# ---- What is kept, coarse and fine.


def told_of(changed, scenes, seeds=3):
    """Rows of runs whose captions tell ``changed`` scenes: projector → (scene, number) → scene."""
    rng = np.random.default_rng(2)
    return pl.concat(
        pl.DataFrame(
            {
                "cell": f"{label}{seed}", "projector": label, "role": "report", "seed": seed,
                "id": [f"{i:03}" for i in range(len(scenes))],
                "group": [f"{i:03}" for i in range(len(scenes))],
                "caption": [
                    caption(change(scene, i + seed), rng, style="clips")
                    for i, scene in enumerate(scenes)
                ],
            }
        )
        for label, change in changed.items()
        for seed in range(seeds)
    )  # fmt: skip


def test_a_compressor_that_loses_the_order_is_told_from_one_that_is_worse_at_everything():
    rng = np.random.default_rng(3)
    scenes = [sample_scene(rng, "clips") for _ in range(40)]
    known = {f"{i:03}": facts(scene) for i, scene in enumerate(scenes)}
    still = {"motion": "still", "camera": "static"}
    changed = {
        "keeps": lambda scene, i: scene,
        "loses_order": lambda scene, i: replace(scene, **still) if i % 4 else scene,
        "worse": lambda scene, i: scene if i % 2 else scenes[(i + 7) % 40],
    }
    tokens = {"keeps": 64, "loses_order": 16, "worse": 16}
    found = grain_view(told_of(changed, scenes), known, tokens, 0.05)
    keeps, loses, worse = found.rows
    assert keeps.sentence.en == "" and min(keeps.values) > 0.9
    assert "loses more of motion, camera (" in loses.sentence.en
    assert "colour" not in loses.sentence.en
    assert worse.sentence.en == "That worse loses detail beside keeps is not shown."
    assert max(worse.values) < 0.7


def test_without_facts_the_grain_is_the_category():
    rng = np.random.default_rng(4)
    ids = [f"{i:03}" for i in range(40)]
    margins = {"references": (4.0, 3.0), "keeps": (2.0, 1.5), "category": (2.0, 0.3)}
    clips = pl.concat(
        pl.DataFrame({"id": ids, "group": ids, "standardised_margin": whole + noise}).with_columns(
            pl.lit(label).alias("projector"),
            pl.lit("references" if label == "references" else "report").alias("role"),
            cell=pl.lit(f"{label}{seed}"),
            seed=seed,
            standardised_margin_within=pl.Series(within + noise),
        )
        for label, (whole, within) in margins.items()
        for seed in range(1 if label == "references" else 3)
        for noise in [rng.normal(0, 0.05, 40)]
    )
    tokens = {"keeps": 64, "category": 16}
    keeps, category = grain_view(clips, None, tokens, 0.05).rows
    assert keeps.values == pytest.approx([0.5, 0.5], abs=0.02)
    assert category.values == pytest.approx([0.5, 0.1], abs=0.02)
    assert "loses more of within the category (0.4" in category.sentence.en
    # Of clips alone in their category nothing is known.
    alone = clips.with_columns(standardised_margin_within=pl.lit(None, dtype=pl.Float64))
    assert grain_view(alone, None, tokens, 0.05) is None


def test_every_fact_has_a_grain():
    assert sorted(sum(GRAINS.values(), ())) == sorted(ATTRIBUTES)
