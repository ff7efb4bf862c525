"""``rehearse`` and ``preflight`` as a user runs them."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def house(new_house: Callable[[], Any]) -> Any:
    return new_house()


def test_neither_belongs_to_the_study_and_both_always_run(house: Any) -> None:
    assert not {"rehearse", "preflight"} & set(house.snakemake("--dry-run").jobs)
    plan = house.snakemake("rehearse", "preflight", "--dry-run")
    assert plan.jobs == {"rehearse": 1, "preflight": 1}, plan.text


def test_preflight_shows_every_line_and_can_be_run_again(house: Any) -> None:
    for _ in range(2):
        run = house.snakemake("preflight")
        assert run.status == 0, run.text
        assert "the demo's clips will be made" in run.text and "preflight: ready" in run.text


def test_preflight_fails_with_its_count_after_all_checks(house: Any) -> None:
    config = house.write_config("lost.yaml", vision={"model": "./nowhere", "frames": 2})
    run = house.snakemake("preflight", config=config)
    assert run.status == 1
    assert "vision.model is './nowhere'" in run.text and "report.html can be written" in run.text
    assert "Traceback" not in run.text
