"""The published tables: fixed columns, joined by name, and honest where nothing can be claimed."""

import polars as pl
import pytest
from support.made_study import HOSTILE, HOSTILE_ID
from support.made_study.ranking import made_ranking, verdict

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json
from siglip_study.metrics.base import METRICS
from siglip_study.ranking.procedure import read_ranking
from siglip_study.report import schema
from siglip_study.report.results import shared
from siglip_study.report.tables import build_tables, read_table


def table(study, name):
    return pl.read_parquet(study.root / "tables" / f"{name}.parquet")


@pytest.mark.parametrize("name", list(schema.TABLES))
def test_every_table_has_its_columns_and_types_as_parquet_and_csv(study, name):
    found = table(study, name)
    assert dict(found.schema) == schema.TABLES[name]
    csv = pl.read_csv(study.root / "tables" / f"{name}.csv", infer_schema_length=0)
    assert csv.columns == found.columns and csv.height == found.height > 0


def test_every_corpus_metric_has_a_column():
    assert set(schema.METRICS) == set(METRICS) - {"truncated_share"}
    assert "truncated_share" in schema.CELLS


def test_the_tokenizer_of_each_text_metric_is_named_beside_the_tables(study):
    rows = {row["metric"]: row for row in table(study, "metrics").to_dicts()}
    cells = [
        read_json(path, "metrics/1")["metrics"] for path in study.root.glob("runs/*/metrics.json")
    ]
    told = {name: info for metrics in cells for name, info in metrics.items()}
    assert set(told) <= set(rows)
    for name, info in told.items():
        for key in ("tokenizer", "version", "unit", "min", "max", "higher_is_better"):
            assert rows[name][key] == info[key], (name, key)
    assert all(name in told or row["not_computed"] for name, row in rows.items())
    assert "morphemes" in rows["meteor"]["tokenizer"]


def test_cells_hold_every_captioner_once(study):
    names = [name for cells in study.cells.values() for name in cells]
    assert sorted(table(study, "cells")["cell"]) == sorted(names)


def test_ranking_repeats_what_was_ranked_and_averages_seeds(study):
    rows = {row["projector"]: row for row in table(study, "ranking").to_dicts()}
    for own in read_ranking(study.root / "tables/ranking.json").projectors:
        row = rows[own.projector]
        assert row["grounding_margin"] == own.mean_margin
        assert row["rank_low"] == own.rank_low
    runs = [c for c in study.cells["report"] if c.startswith("linear")]
    cosines = [
        read_json(study.root / f"runs/{run}/metrics.json", "metrics/1")["values"]["siglip_cosine"]
        for run in runs
    ]
    assert rows["linear"]["siglip_cosine"] == pytest.approx(
        sum(c["value"] for c in cosines) / len(runs)
    )
    assert rows["linear"]["reference_siglip_cosine"] == pytest.approx(0.31)


def test_ranked_rows_come_first(study):
    ranked = table(study, "ranking")["ranked"].to_list()
    assert ranked == sorted(ranked, reverse=True)


def test_controls_are_judged_by_the_gate(study):
    rows = table(study, "controls").filter(pl.col("metric") == "grounding_margin").to_dicts()
    by_role = {row["role"]: row for row in rows}
    assert by_role["control_hot"]["gate"] == "collapsed" and by_role["control_hot"]["as_expected"]
    assert by_role["control_noise"]["as_expected"] and by_role["control_blind"]["as_expected"]
    assert by_role["control_retrieval"]["as_expected"] is None


def test_a_control_that_sees_too_much_is_reported(study, tmp_path):
    from siglip_study.report.controls import control_rows
    from siglip_study.report.results import read_cells

    cells = read_cells(study.root, {"control_noise": study.cells["control_noise"]})
    gates = {cells[0].name: verdict("linear")}
    rows = control_rows(cells, made_ranking(["linear"], 2), gates)
    assert [r["as_expected"] for r in rows if r["metric"] == "grounding_margin"] == [False]


def test_pairs_name_no_winner_where_nothing_is_significant(study):
    for row in table(study, "pairs").to_dicts():
        assert (row["better"] is not None) == (row["p_holm"] <= 0.05)
        if row["better"] is not None:
            assert row["better"] == (row["a"] if row["difference"] > 0 else row["b"])


def test_clips_keep_untrusted_text_as_it_is(study):
    captions = table(study, "clips").filter(pl.col("id") == HOSTILE_ID)["caption"]
    assert HOSTILE in captions.to_list()


@pytest.mark.parametrize(
    ("cells", "message"),
    [({"report": ["absent_00000000"]}, "no such file"), ({"chief": ["references"]}, "chief")],
)
def test_a_wrong_cell_is_one_sentence(study, cells, message):
    with pytest.raises(StudyError, match=message):
        build_tables(study.root, cells)


def test_another_cells_metrics_are_refused(study, tmp_path):
    name = study.cells["report"][0]
    folder = tmp_path / "runs" / name
    for file, kind in (("metrics.json", "metrics/1"), ("cell.json", "cell/1")):
        told = read_json(study.root / f"runs/{name}/{file}", kind)
        write_json(folder / file, {**told, "cell": "other"}, kind)
    for file in ("ranking.json", "selection.json"):
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables" / file).write_bytes((study.root / "tables" / file).read_bytes())
    with pytest.raises(StudyError, match="speaks of cell 'other'"):
        build_tables(tmp_path, {"report": [name]})


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
    assert shared([one, two]) == {
        "gpu_s": 15.0,
        "device": "a",
        "peak_gpu_gb": 4.0,
        "seed": 1,
        "run": {"stage2": {"epochs": 3}},
    }
