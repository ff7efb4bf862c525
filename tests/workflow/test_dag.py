"""What Snakemake plans, before anything has run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from siglip_study.config import load
from siglip_study.study.grid import Study


@pytest.fixture(scope="module")
def house(new_house: Callable[[], Any]) -> Any:
    return new_house()


def test_the_demo_plans_each_expensive_thing_once(house: Any) -> None:
    config = yaml.safe_load((house.folder / "config/config.yaml").read_text("utf-8"))
    projectors, grid = len(config["projectors"]), config["grid"]
    cells = projectors * len(grid["learning_rate"]) * len(grid["epochs"])
    assert projectors >= 4 and cells >= 16
    plan = house.snakemake("--dry-run")
    assert plan.status == 0, plan.text
    jobs = plan.jobs
    once = ("demo", "manifest", "vision_features", "scorer_features", "baselines", "select")
    assert {rule: jobs[rule] for rule in once} == dict.fromkeys(once, 1)
    # Cells that differ in stage 2 only share their first stage; each control has its own.
    controls = sum(value not in (None, False) for value in config["controls"].values())
    assert jobs["stage1"] == projectors + controls
    assert jobs["stage2"] == jobs["captions"] == len(plan.cells("stage 2")) == cells + controls
    # Fresh seeds are planned when the tuning cells have been scored.
    assert (jobs["score"], jobs["tables"], jobs["report"]) == (2, 1, 1)


def test_permuted_captions_are_trained_five_times_beside_one_report_seed(house: Any) -> None:
    controls = {"permuted_captions": "linear"}
    plain = house.snakemake("--dry-run", config=house.write_config("plain.yaml"))
    config = house.write_config("permuted.yaml", controls=controls, seeds={"report": [1]})
    plan = house.snakemake("--dry-run", config=config)
    assert plan.status == 0, plan.text
    drawn = plan.cells("stage 2") - plain.cells("stage 2")
    assert len([cell for cell in drawn if cell.startswith("permuted.linear_")]) == 5


def test_a_second_tuning_seed_trains_the_grid_again_and_renames_nothing(house: Any) -> None:
    plain = house.snakemake("--dry-run", config=house.write_config("plain.yaml"))
    seeds = {"tuning": [0, 7], "report": [1]}
    config = house.write_config("twice.yaml", seeds=seeds)
    plan = house.snakemake("--dry-run", config=config)
    assert plan.status == 0, plan.text
    again = {second.name for _, second in Study(load(config)).points}
    assert plain.cells("stage 2") < plan.cells("stage 2")
    assert plan.cells("stage 2") - plain.cells("stage 2") == again


def with_root(house: Any, name: str, root: Path) -> tuple[dict[str, Any], Path]:
    """A config of the house whose dataset lies in ``root``, and its file."""
    config = yaml.safe_load((house.folder / f"config/{name}.yaml").read_text("utf-8"))
    config["data"]["root"] = str(root)
    path = house.folder / f"config/{name}_here.yaml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return config, path


def test_the_token_matched_table_asks_the_scorer_and_trains_every_row(
    house: Any, tmp_path: Any
) -> None:
    table, config = with_root(house, "token_matched", tmp_path)
    plan = house.snakemake("--dry-run", config=config)
    assert plan.status == 0, plan.text
    # And the blind-trained control.
    assert plan.jobs["stage1"] == len(table["projectors"]) + 1 == 21
    assert plan.jobs["scorer_check"] == plan.jobs["scorer_verdict"] == 1


def test_the_presets_of_the_full_study_are_a_target(house: Any, tmp_path: Any) -> None:
    study, config = with_root(house, "study", tmp_path)
    plan = house.snakemake("presets", "--dry-run", config=config)
    assert plan.status == 0, plan.text
    assert plan.jobs["stage2"] == plan.jobs["stage1"] == len(study["presets"]) == 5
    assert {cell.split(".")[0] for cell in plan.cells("stage 2")} == set(study["presets"])


def test_a_wrong_config_ends_in_one_sentence(house: Any) -> None:
    config = house.write_config("wrong.yaml", projektors={"linear": {}})
    run = house.snakemake("--dry-run", config=config)
    assert run.status != 0 and "Traceback" not in run.text
    assert "unknown key 'projektors'; did you mean 'projectors'?" in run.text
    assert len([line for line in run.text.splitlines() if line.strip()]) <= 4, run.text


def test_the_catalogue_s_entry_plans_the_same(house: Any) -> None:
    plan = house.snakemake("--snakefile", "workflow/Snakefile", "--dry-run")
    assert plan.status == 0, plan.text
    assert plan.jobs == house.snakemake("--dry-run").jobs


def test_the_profile_is_accepted(house: Any) -> None:
    run = house.snakemake("--workflow-profile", "profiles/local", "--dry-run")
    assert run.status == 0, run.text


def test_one_held_out_split_is_scored_on_both_halves_and_then_chosen(house: Any) -> None:
    data = {"splits": {"train": "train", "held_out": "report"}}
    stages = {name: {"batch_size": 8} for name in ("stage1", "stage2")}
    grid = {"learning_rate": [5e-4, 2e-3], "epochs": [1]}
    changes = {"data": data, "grid": grid, **stages}
    plan = house.snakemake("--dry-run", config=house.write_config("halved.yaml", **changes))
    assert plan.status == 0, plan.text
    # Two projectors at two rates; the fresh seeds are planned when both halves have chosen.
    assert (plan.jobs["stage2"], plan.jobs["captions"], plan.jobs["select"]) == (4, 4, 1)
    assert (plan.jobs["score"], plan.jobs["tables"]) == (2, 1)
    changes["data"] = {**data, "cross_fit": False}
    plan = house.snakemake("--dry-run", config=house.write_config("apart.yaml", **changes))
    assert (plan.jobs["stage2"], plan.jobs["score"]) == (4, 2)
