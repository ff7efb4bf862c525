"""The embedded study as the README starts it, and whether its world's truth comes out.

Minutes long: ``pytest -m full tests/workflow``.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
import yaml
from support.pages import documented
from support.whole_page import check_whole_page

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def demo(new_house: Callable[[], Any]) -> Any:
    house = new_house()
    line = documented(".venv/bin/snakemake --cores all --resources gpu=1")
    house.flags = tuple(line.split()[1:])
    run = house.snakemake(timeout=3600)
    assert run.status == 0, run.text[-6000:]
    return house


def test_the_page_is_one_file_of_at_most_five_megabytes(demo: Any) -> None:
    assert 100_000 < (demo.folder / "results/report.html").stat().st_size <= 5_000_000


@pytest.mark.browser
@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_page_is_short_and_prints_on_few_sheets(browser: Any, demo: Any, language: str) -> None:
    tab = browser.open(demo.folder / "results/report.html", f"#lang={language}")
    tab.wait("document.getElementById('clips-list').dataset.ready")
    tab.run("document.querySelectorAll('.sr, .bare figcaption, select').forEach((n) => n.remove())")
    assert tab.run("document.body.innerText.split(/\\s+/).length") <= 2000
    assert tab.run("document.documentElement.scrollHeight") <= 6500
    assert len(re.findall(rb"/Type\s*/Page\b", tab.pdf())) <= 12
    assert tab.console == [] == tab.requests
    tab.close()


@pytest.mark.browser
def test_the_page_does_what_any_page_must(browser: Any, demo: Any) -> None:
    check_whole_page(browser, demo.folder / "results/report.html")


def test_a_second_run_starts_no_job(demo: Any) -> None:
    assert demo.snakemake().jobs == {}


def test_the_control_that_was_made_to_collapse_is_caught(demo: Any) -> None:
    cells = pl.read_parquet(demo.folder / "results/tables/cells.parquet")
    hot = cells.filter(pl.col("role") == "control_hot")
    assert hot.height == 1 and hot["collapsed"].to_list() == [True]


def report_metrics(demo: Any) -> list[dict[str, Any]]:
    files = (demo.folder / "results/runs").glob("*/metrics.json")
    metrics = [json.loads(path.read_text("utf-8")) for path in files]
    return [found for found in metrics if found["role"] == "report"]


def test_some_projector_tells_facts_above_chance_one_of_them_over_several_frames(
    demo: Any,
) -> None:
    told = [
        {name for name, fact in found["truth"].items() if fact["low"] > 0}
        for found in report_metrics(demo)
        if found["values"]["grounding_margin"]["low"] > 0
        and found["losses"]["shuffled_gap"]["low"] > 0
    ]
    assert any(len(facts) >= 3 and facts & {"motion", "camera"} for facts in told)


def test_a_projector_without_frame_order_does_not_tell_motion(demo: Any) -> None:
    blind_to_order = [m for m in report_metrics(demo) if m["projector"] == "query_abstractor"]
    assert blind_to_order
    for found in blind_to_order:
        assert found["truth"]["motion"]["low"] <= 0
        assert abs(found["losses"]["reversed_gap"]["value"]) < 1e-4


def test_the_retrieval_baseline_is_cleared_by_some_and_the_report_names_them(demo: Any) -> None:
    ranking = json.loads((demo.folder / "results/tables/ranking.json").read_text("utf-8"))
    tests = ranking["retrieval"]["comparisons"]
    assert [test["projector"] for test in tests if test["cleared"]]
    assert {test["projector"] for test in tests} == {r["projector"] for r in ranking["projectors"]}


@pytest.mark.parametrize(
    "role", ["control_noise", "control_blind", "control_generic", "control_category"]
)
def test_what_cannot_see_is_never_grounded(demo: Any, role: str) -> None:
    controls = pl.read_parquet(demo.folder / "results/tables/controls.parquet")
    verdicts = set(controls.filter(pl.col("role") == role)["gate"].to_list())
    assert verdicts and verdicts <= {"ungrounded", "collapsed"}


def test_no_table_of_the_report_is_missing(demo: Any) -> None:
    tables = demo.folder / "results/tables"
    for name in ("ranking", "cells", "clips", "controls", "pairs", "metrics", "rejected"):
        assert pl.read_parquet(tables / f"{name}.parquet").columns
        assert (tables / f"{name}.csv").stat().st_size > 0


def test_permuted_captions_are_ungrounded_over_all_their_draws(demo: Any) -> None:
    """Last: it adds the draws to the finished study, and nothing else of it runs again."""
    config = demo.folder / "config/permuted.yaml"
    settings = yaml.safe_load((demo.folder / "config/config.yaml").read_text("utf-8"))
    settings["controls"]["permuted_captions"] = "linear"
    config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    jobs = demo.snakemake("--dry-run", config=config).jobs
    assert jobs["stage1"] == jobs["stage2"] == jobs["captions"] == 5
    run = demo.snakemake(config=config, timeout=3600)
    assert run.status == 0, run.text[-6000:]
    controls = pl.read_parquet(demo.folder / "results/tables/controls.parquet")
    margins = controls.filter(
        (pl.col("role") == "control_permuted") & (pl.col("metric") == "standardised_margin")
    )
    assert margins.select("gate", "as_expected", "n_runs").rows() == [("ungrounded", True, 5)]
