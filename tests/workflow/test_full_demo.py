"""The embedded study as the README starts it, and whether its world's truth comes out.

Minutes long: ``pytest -m full tests/workflow``.
"""

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def demo(new_house: Callable[[], Any]) -> Any:
    house = new_house()
    run = house.snakemake(timeout=3600)
    assert run.status == 0, run.text[-6000:]
    return house


def test_the_page_is_one_file_of_at_most_five_megabytes(demo: Any) -> None:
    assert 100_000 < (demo.folder / "results/report.html").stat().st_size <= 5_000_000


def test_a_second_run_starts_no_job(demo: Any) -> None:
    assert demo.snakemake().jobs == {}


def test_the_control_that_was_made_to_collapse_is_caught(demo: Any) -> None:
    cells = pl.read_parquet(demo.folder / "results/tables/cells.parquet")
    hot = cells.filter(pl.col("role") == "control_hot")
    assert hot.height == 1 and hot["collapsed"].to_list() == [True]


def test_some_projector_tells_at_least_three_facts_above_chance(demo: Any) -> None:
    most = 0
    for path in (demo.folder / "results/runs").glob("*/metrics.json"):
        metrics = json.loads(path.read_text("utf-8"))
        if metrics["role"] == "report":
            most = max(most, sum(fact["low"] > 0 for fact in metrics["truth"].values()))
    assert most >= 3


def test_no_table_of_the_report_is_missing(demo: Any) -> None:
    tables = demo.folder / "results/tables"
    for name in ("ranking", "cells", "clips", "controls", "pairs", "rejected"):
        assert pl.read_parquet(tables / f"{name}.parquet").columns
        assert (tables / f"{name}.csv").stat().st_size > 0
