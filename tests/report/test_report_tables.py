"""The published tables: fixed columns, joined by name, and honest where nothing can be claimed."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from support.made_study.ranking import made_ranking, verdict
from support.page import Page

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json
from siglip_study.data.summary import Unused, summarise, write_summary
from siglip_study.ranking.gate import References
from siglip_study.ranking.procedure import Entry, rank_study, read_ranking, write_ranking
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.report import schema
from siglip_study.report.controls import control_rows
from siglip_study.report.results import read_cells, shared
from siglip_study.report.tables import build_tables, read_table
from siglip_study.report.wording.conclusion import caveats


def table(study, name):
    return pl.read_parquet(study.root / "tables" / f"{name}.parquet")


@pytest.mark.parametrize("name", list(schema.TABLES))
def test_every_table_has_its_columns_and_types_as_parquet_and_csv(study, name):
    found = table(study, name)
    assert dict(found.schema) == schema.TABLES[name]
    csv = pl.read_csv(study.root / "tables" / f"{name}.csv", infer_schema_length=0)
    assert csv.columns == found.columns and csv.height == found.height > 0


def test_the_tokenizer_of_each_text_metric_is_named_beside_the_tables(study):
    rows = {row["metric"]: row for row in table(study, "metrics").to_dicts()}
    told = {}
    for path in study.root.glob("runs/*/metrics.json"):
        told |= read_json(path, "metrics/1")["metrics"]
    for name, info in told.items():
        for key in ("tokenizer", "version", "unit", "min", "max", "higher_is_better"):
            assert rows[name][key] == info[key], (name, key)
    assert all(name in told or row["not_computed"] for name, row in rows.items())
    assert "morphemes" in rows["meteor"]["tokenizer"]


def test_cells_hold_every_captioner_once(study):
    names = [name for cells in study.cells.values() for name in cells]
    assert sorted(table(study, "cells")["cell"]) == sorted(names)


def test_ranking_repeats_what_was_ranked_and_averages_seeds(study):
    found = table(study, "ranking").to_dicts()
    rows = {row["projector"]: row for row in found}
    for own in read_ranking(study.root / "tables/ranking.json").projectors:
        row = rows[own.projector]
        assert (row["standardised_margin"], row["rank_low"]) == (own.mean_margin, own.rank_low)
    cosines = [
        read_json(study.root / f"runs/{run}/metrics.json", "metrics/1")["values"]["siglip_cosine"]
        for run in study.cells["report"]
        if run.startswith("linear")
    ]
    mean = np.mean([cosine["value"] for cosine in cosines])
    assert rows["linear"]["siglip_cosine"] == pytest.approx(mean)
    assert rows["linear"]["reference_siglip_cosine"] == pytest.approx(0.31)
    ranked = [row["ranked"] for row in found]
    assert ranked == sorted(ranked, reverse=True)


def test_controls_are_judged_by_the_gate(study):
    rows = table(study, "controls").filter(pl.col("metric") == "standardised_margin").to_dicts()
    by_role = {row["role"]: row for row in rows}
    assert by_role["control_hot"]["gate"] == "collapsed"
    for role in ("control_hot", "control_noise", "control_blind"):
        assert by_role[role]["as_expected"] is True
    assert by_role["control_retrieval"]["as_expected"] is None


def test_a_control_that_sees_too_much_is_reported(study):
    cells = read_cells(study.root, {"control_noise": study.cells["control_noise"]})
    rows = control_rows(cells, made_ranking(["linear"], 2), {cells[0].name: verdict("linear")})
    assert [r["as_expected"] for r in rows if r["metric"] == "standardised_margin"] == [False]


def test_pairs_name_no_winner_where_nothing_is_significant(study):
    for row in table(study, "pairs").to_dicts():
        better = row["a"] if row["difference"] > 0 else row["b"]
        assert row["better"] == (better if row["p_holm"] <= 0.05 else None)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"report": ["absent_00000000"]}, "missing; expected the scores"),
        ({"chief": ["references"]}, "chief"),
    ],
)
def test_a_wrong_cell_is_one_sentence(study, cells, message):
    with pytest.raises(StudyError, match=message):
        build_tables(study.root, cells)


def test_another_cells_metrics_are_refused(study, tmp_path):
    name = study.cells["report"][0]
    for file, kind in (("metrics.json", "metrics/1"), ("cell.json", "cell/1")):
        told = read_json(study.root / f"runs/{name}/{file}", kind)
        write_json(tmp_path / "runs" / name / file, {**told, "cell": "other"}, kind)
    with pytest.raises(StudyError, match="speaks of cell 'other'"):
        read_cells(tmp_path, {"report": [name]})


def test_an_old_table_is_refused(tmp_path):
    (tmp_path / "tables").mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "tables/pairs.parquet")
    with pytest.raises(StudyError, match=r"pairs\.parquet: has columns a; expected a, b, diff"):
        read_table(tmp_path, "pairs")
    with pytest.raises(StudyError, match="no such file"):
        read_table(tmp_path, "cells")


def test_two_trainings_as_one_keep_what_they_share_and_the_mean_of_what_they_took():
    run = {"gpu_s": 10.0, "device": "a", "peak_gpu_gb": 3.0, "seed": 1}
    one = {**run, "run": {"stage2": {"epochs": 3, "learning_rate": 1e-4}}}
    two = {**run, "gpu_s": 20.0, "peak_gpu_gb": 4.0}
    two["run"] = {"stage2": {"epochs": 3, "learning_rate": 1e-3}}
    kept = {"device": "a", "seed": 1, "run": {"stage2": {"epochs": 3}}}
    assert shared([one, two]) == {"gpu_s": 15.0, "peak_gpu_gb": 4.0, **kept}


# ---- What the ranking really writes goes through tables and page, the poor cases too.


def real_ranking(seeds, groups, n=24):
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 0.05, (n, n)) + 0.3 * np.eye(n)
    entries = {
        label: Entry(rng.normal(0.1 * i, 0.03, (seeds, n)), [0.8] * seeds, [0.05] * seeds)
        for i, label in enumerate(("linear", "mlp_2l", "c_abstractor", "query_perceiver"))
    }
    return rank_study(
        entries,
        groups,
        References(0.9, 0.05, 0.3),
        check_scorer(matrix, groups, [None] * n, 0.05),
        retrieval=rng.normal(0.1, 0.03, n),
    )


@pytest.mark.parametrize(
    ("seeds", "groups", "shown"),
    [
        (3, [f"g{i // 2}" for i in range(24)], "clips and seeds"),
        (1, [f"g{i}" for i in range(24)], "No order can be claimed: there is one run each"),
        (2, ["g"] * 24, "No order can be claimed"),
    ],
)
def test_rankings_of_every_kind_are_shown(make_study, tmp_path, seeds, groups, shown):
    study = make_study(tmp_path, seeds=seeds, steps=8)
    found = real_ranking(seeds, groups)
    write_ranking(tmp_path / "tables/ranking.json", found)
    build_tables(tmp_path, study.cells)
    pairs = table(study, "pairs")
    assert pairs.height == 6 and (pairs["better"].null_count() == 6) == (not found.can_rank)
    text = Page(study.report()).text
    assert shown in text
    assert [said for said in caveats(found) if said.en.split("'")[0] not in text] == []


def test_a_study_without_truth_rejections_or_retrieval(make_study, tmp_path):
    study = make_study(tmp_path, truth=False, steps=8)
    empty = Unused.of([], {})
    empty.table().write_parquet(tmp_path / "data/rejected.parquet")
    manifest = pl.read_parquet(tmp_path / "data/manifest.parquet")
    write_summary(tmp_path / "data/summary.json", summarise(manifest, empty))
    found = replace(real_ranking(2, [f"g{i}" for i in range(24)]), retrieval=None)
    write_ranking(tmp_path / "tables/ranking.json", found)
    build_tables(tmp_path, study.cells)
    html = study.report()
    assert 'id="truth"' not in html and "none was left out" in html
    assert "clear the retrieval baseline" not in html.lower().split("<script")[0]


def test_one_clip_is_a_report_too(make_study, tmp_path):
    study = make_study(tmp_path, clips=1, steps=1)
    assert len(Page(study.report()).clips) == 1
