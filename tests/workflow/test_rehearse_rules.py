"""``rehearse`` and ``preflight`` as a user runs them."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from siglip_study.base.io import write_json
from siglip_study.config import load, parse
from siglip_study.planning.equal_time import main
from siglip_study.planning.rehearse import timed_settings
from siglip_study.study import Study


@pytest.fixture(scope="module")
def house(new_house: Callable[[], Any]) -> Any:
    return new_house()


def test_preflight_shows_every_line_and_always_runs_as_does_rehearse(house: Any) -> None:
    run = house.snakemake("preflight")
    assert run.status == 0, run.text
    assert "the demo's clips will be made" in run.text and "preflight: ready" in run.text
    plan = house.snakemake("rehearse", "preflight", "--dry-run")
    assert plan.jobs == {"rehearse": 1, "preflight": 1}, plan.text
    # Neither belongs to the study.
    assert not {"rehearse", "preflight"} & set(house.snakemake("--dry-run").jobs)


def test_preflight_tells_a_mistake_once_and_ends_with_its_count(house: Any) -> None:
    """As every failure of a study ends: how to go on, the log, and the sentence last."""
    config = house.write_config("lost.yaml", vision={"model": "./nowhere", "frames": 2})
    run = house.snakemake("preflight", config=config)
    assert run.status == 1 and "report.html can be written" in run.text
    assert run.text.count("vision.model is './nowhere'") == 1
    *_, command, failed, sentence = run.text.splitlines()
    assert command.startswith("    python -m snakemake preflight --cores 1")
    assert command.endswith("/lost.yaml")
    assert failed.endswith(": failed, see results/logs/preflight/all.log")
    assert sentence.startswith("siglip-study: preflight: not ready (1 failed")
    assert run.text.count("not ready") == 1 and "Traceback" not in run.text


def test_equal_gpu_time_is_laid_over_the_config(house: Any, tmp_path: Any) -> None:
    """Snakemake merges the file that the command writes, and plans cells of those epochs."""
    config = house.write_config("base.yaml")
    study = load(config)
    steps = {"linear": (3.0, 4.0), "query_abstractor": (1.0, 1.5)}
    record = {
        "train_clips": 24,
        "settings": timed_settings(study),
        "steps": {
            label: [{"seconds": s, "problem": None} for s in both] for label, both in steps.items()
        },
    }
    rehearsal, laid = tmp_path / "rehearsal.json", house.folder / "config/equal_time.yaml"
    write_json(rehearsal, {"device": "H200", "how": "timed", "training": record}, "rehearsal/2")
    arguments = ["--reference", "linear", "--rehearsal", rehearsal, "--out", laid]
    assert main([str(config), *map(str, arguments)]) == 0

    # 3 steps an epoch: linear takes 9 + 12 s; (21 - 3) / 4.5 = 4.
    whole = yaml.safe_load(config.read_text("utf-8"))
    whole["projectors"]["linear"]["epochs"] = [1]
    whole["projectors"]["query_abstractor"]["epochs"] = [4]
    expected = {cell.name for cell in Study(parse(whole)).tuning}
    plain = house.snakemake("--dry-run", config=config)
    plan = house.snakemake("--dry-run", "--configfile", config, laid)
    assert plan.status == 0, plan.text
    assert plan.cells("stage 2") == expected and len(expected) == 2
    # The reference trains as it did; what is faster trains longer, in a place of its own.
    assert len(expected & plain.cells("stage 2")) == 1
    assert "results_equal_time/report.html" in plan.text
