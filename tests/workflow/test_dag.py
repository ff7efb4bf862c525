"""What Snakemake plans, before anything has run."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml


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


def test_the_token_matched_table_asks_the_scorer_and_trains_every_row(
    house: Any, tmp_path: Any
) -> None:
    table = yaml.safe_load((house.folder / "config/token_matched.yaml").read_text("utf-8"))
    table["data"]["root"] = str(tmp_path)
    config = house.folder / "config/matched.yaml"
    config.write_text(yaml.safe_dump(table, allow_unicode=True), encoding="utf-8")
    plan = house.snakemake("--dry-run", config=config)
    assert plan.status == 0, plan.text
    # And the blind-trained control.
    assert plan.jobs["stage1"] == len(table["projectors"]) + 1 == 21
    assert plan.jobs["scorer_check"] == plan.jobs["scorer_verdict"] == 1


def test_the_presets_of_the_full_study_are_a_target(house: Any, tmp_path: Any) -> None:
    study = yaml.safe_load((house.folder / "config/study.yaml").read_text("utf-8"))
    study["data"]["root"] = str(tmp_path)
    config = house.folder / "config/presets.yaml"
    config.write_text(yaml.safe_dump(study, allow_unicode=True), encoding="utf-8")
    plan = house.snakemake("presets", "--dry-run", config=config)
    assert plan.status == 0, plan.text
    assert plan.jobs["stage2"] == plan.jobs["stage1"] == len(study["presets"]) == 5
    assert {cell.split(".")[0] for cell in plan.cells("stage 2")} == set(study["presets"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"projektors": {"linear": {}}}, "unknown key 'projektors'; did you mean 'projectors'?"),
        (
            {"vision": {"model": "resources/demo/vision", "frame": 4}},
            "unknown key 'vision.frame'; did you mean 'frames'?",
        ),
        ({"grid": {"learning_rate": [-1], "epochs": [1]}}, "grid.learning_rate.0 is -1: "),
        ({"projectors": {"a/b": {}}}, "projectors.a/b"),
    ],
    ids=["key", "nested-key", "value", "label"],
)
def test_a_wrong_config_ends_in_one_sentence(
    house: Any, changes: dict[str, Any], sentence: str
) -> None:
    run = house.snakemake("--dry-run", config=house.write_config("wrong.yaml", **changes))
    assert run.status != 0
    assert sentence in run.text
    assert "Traceback" not in run.text
    assert len([line for line in run.text.splitlines() if line.strip()]) <= 4, run.text


def test_the_catalogue_s_entry_plans_the_same(house: Any) -> None:
    plan = house.snakemake("--snakefile", "workflow/Snakefile", "--dry-run")
    assert plan.status == 0, plan.text
    assert plan.jobs == house.snakemake("--dry-run").jobs


@pytest.mark.parametrize("name", ["local"])
def test_a_profile_is_accepted(house: Any, name: str) -> None:
    run = house.snakemake("--workflow-profile", f"workflow/profiles/{name}", "--dry-run")
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
