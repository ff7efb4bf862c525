"""``rehearse`` and ``preflight`` as a user runs them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from support.pages import arguments, documented, outside_projector, put_library_in

from siglip_study.base.io import write_json
from siglip_study.config import load, parse
from siglip_study.planning.equal_time import main
from siglip_study.planning.rehearse import timed_settings
from siglip_study.study import Study


@pytest.fixture(scope="module")
def house(new_house: Callable[[], Any]) -> Any:
    return new_house()


def test_preflight_shows_every_line_of_a_study_with_a_projector_from_outside(house: Any) -> None:
    """The last part of docs/add-a-projector.md, to the letter."""
    assert house.shell(documented("cp config/config.yaml config/mine.yaml")).returncode == 0
    code, with_it = outside_projector()
    (house.folder / "my_package").mkdir()
    (house.folder / "my_package/pooling.py").write_text(code, "utf-8")
    config = house.folder / "config/mine.yaml"
    study = yaml.safe_load(config.read_text("utf-8"))
    study["projectors"] |= with_it["projectors"]
    config.write_text(yaml.safe_dump(study), "utf-8")
    put_library_in(house.folder)
    run = house.shell(
        documented(
            "PYTHONPATH=$PWD .venv/bin/snakemake preflight --cores 1 --configfile config/mine.yaml"
        )
    )
    assert run.returncode == 0, run.stderr
    told = run.stdout + run.stderr
    assert "the demo's clips will be made" in told and "preflight: ready" in told
    assert re.search(r"projectors: mine: \d+ tokens a video", told)


def test_neither_preflight_nor_rehearse_belongs_to_the_study_and_both_run_when_asked(
    house: Any,
) -> None:
    plan = house.snakemake("rehearse", "preflight", "--dry-run")
    assert plan.jobs == {"rehearse": 1, "preflight": 1}, plan.text
    assert not {"rehearse", "preflight"} & set(house.snakemake("--dry-run").jobs)


def test_the_full_study_is_rehearsed_without_its_models_and_a_gpu(house: Any) -> None:
    assert house.shell(documented("cp config/study.yaml config/mine.yaml")).returncode == 0
    run = house.shell(
        documented(".venv/bin/snakemake rehearse --cores 1 --configfile config/mine.yaml")
    )
    assert run.returncode == 0, run.stderr
    assert "865 train" in run.stdout + run.stderr
    assert (house.folder / "results/study/rehearsal.json").is_file()


def test_preflight_tells_a_mistake_once_and_ends_with_its_count(house: Any) -> None:
    """As every failure of a study ends: how to go on, the log, and the sentence last."""
    house.write_config("mine.yaml", vision={"model": "./nowhere", "frames": 2})
    line = documented(".venv/bin/snakemake preflight --cores 1 --configfile config/mine.yaml")
    run = house.shell(f"{line} 2>&1")
    assert run.returncode == 1 and "report.html can be written" in run.stdout
    assert run.stdout.count("vision.model is './nowhere'") == 1
    *_, command, failed, sentence = run.stdout.splitlines()
    assert command == f"    {line}"
    assert failed.endswith(": failed, see results/logs/preflight/all.log")
    assert sentence.startswith("siglip-study: preflight: not ready (1 failed")
    assert run.stdout.count("not ready") == 1 and "Traceback" not in run.stdout


def test_equal_gpu_time_is_laid_over_the_config(house: Any, monkeypatch: Any) -> None:
    """Snakemake merges the file that the command writes, and plans cells of those epochs."""
    config = house.write_config("mine.yaml")
    study = load(config)
    steps = {"linear": (3.0, 4.0), "query_abstractor": (1.0, 1.5)}
    record = {
        "train_clips": 24,
        "settings": timed_settings(study),
        "steps": {
            label: [{"seconds": s, "problem": None} for s in both] for label, both in steps.items()
        },
    }
    rehearsal = house.folder / "results/study/rehearsal.json"
    write_json(rehearsal, {"device": "H200", "how": "timed", "training": record}, "rehearsal/2")
    monkeypatch.chdir(house.folder)
    line = documented(
        ".venv/bin/python -m siglip_study.planning.equal_time config/mine.yaml --reference linear"
        " --rehearsal results/study/rehearsal.json --out config/equal_time.yaml"
    )
    assert main(arguments(line)) == 0

    # 3 steps an epoch: linear takes 9 + 12 s; (21 - 3) / 4.5 = 4.
    whole = yaml.safe_load(config.read_text("utf-8"))
    whole["projectors"]["linear"]["epochs"] = [1]
    whole["projectors"]["query_abstractor"]["epochs"] = [4]
    expected = {cell.name for cell in Study(parse(whole)).tuning}
    plain = house.snakemake("--dry-run", config=config)
    plan = house.planned(
        documented(
            ".venv/bin/snakemake --cores all --resources gpu=1 --configfile config/mine.yaml"
            " config/equal_time.yaml"
        )
    )
    assert plan.status == 0, plan.text
    assert plan.cells("stage 2") == expected and len(expected) == 2
    # The reference trains as it did; what is faster trains longer, in a place of its own.
    assert len(expected & plain.cells("stage 2")) == 1
    assert "results_equal_time/report.html" in plan.text
