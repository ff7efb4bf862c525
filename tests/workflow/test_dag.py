"""What Snakemake plans, before anything has run."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.pages import documented

from siglip_study.config import load
from siglip_study.study.grid import Study


@pytest.fixture(scope="module")
def house(new_house: Callable[[], Any]) -> Any:
    return new_house()


@pytest.fixture(scope="module")
def demo_plan(house: Any) -> Any:
    assert house.shell(documented("cp config/config.yaml config/mine.yaml")).returncode == 0
    line = documented(
        ".venv/bin/snakemake --cores 1 --resources gpu=1 --dry-run --configfile config/mine.yaml"
    )
    plan = house.planned(line)
    assert plan.status == 0, plan.text
    return plan


@pytest.fixture(scope="module")
def plain_plan(house: Any) -> Any:
    """Of ``two_cells.yaml`` as it is."""
    plan = house.snakemake("--dry-run", config=house.write_config("plain.yaml"))
    assert plan.status == 0, plan.text
    return plan


def test_the_demo_plans_each_expensive_thing_once(house: Any, demo_plan: Any) -> None:
    config = yaml.safe_load((house.folder / "config/config.yaml").read_text("utf-8"))
    projectors, grid = len(config["projectors"]), config["grid"]
    cells = projectors * len(grid["learning_rate"]) * len(grid["epochs"])
    assert projectors >= 4 and cells >= 16
    plan, jobs = demo_plan, demo_plan.jobs
    once = ("demo", "manifest", "scorer_check", "training_may_begin", "baselines", "select")
    assert {rule: jobs[rule] for rule in once} == dict.fromkeys(once, 1)
    # One a split that is checked and encoded.
    assert (jobs["clips"], jobs["vision_features"], jobs["scorer_features"]) == (3, 3, 2)
    # Cells that differ in stage 2 only share their first stage; each control has its own.
    controls = sum(value not in (None, False) for value in config["controls"].values())
    assert jobs["stage1"] == projectors + controls
    assert jobs["stage2"] == jobs["captions"] == len(plan.cells("stage 2")) == cells + controls
    # Fresh seeds are planned when the tuning cells have been scored.
    assert (jobs["score"], jobs["tables"], jobs["report"]) == (2, 1, 1)


def test_permuted_captions_are_trained_five_times_beside_one_report_seed(
    house: Any, plain_plan: Any
) -> None:
    controls = {"permuted_captions": "linear"}
    config = house.write_config("permuted.yaml", controls=controls, seeds={"report": [1]})
    plan = house.snakemake("--dry-run", config=config)
    assert plan.status == 0, plan.text
    drawn = plan.cells("stage 2") - plain_plan.cells("stage 2")
    assert len([cell for cell in drawn if cell.startswith("permuted.linear_")]) == 5


def test_a_second_tuning_seed_trains_the_grid_again_and_renames_nothing(
    house: Any, plain_plan: Any
) -> None:
    seeds = {"tuning": [0, 7], "report": [1]}
    config = house.write_config("twice.yaml", seeds=seeds)
    plan = house.snakemake("--dry-run", config=config)
    assert plan.status == 0, plan.text
    again = {second.name for _, second in Study(load(config)).points}
    assert plain_plan.cells("stage 2") < plan.cells("stage 2")
    assert plan.cells("stage 2") - plain_plan.cells("stage 2") == again


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


def test_stage_1_alone_is_captioned_without_a_second_stage(house: Any) -> None:
    config = house.write_config("alone.yaml", controls={"stage1_alone": True})
    names = [name for name in Study(load(config)).cells if name.startswith("stage1.linear_")]
    (target,) = (f"results/runs/{name}/captions.json" for name in names)
    plan = house.snakemake("--dry-run", target, config=config)
    assert plan.status == 0, plan.text
    assert (plan.jobs["stage1"], plan.jobs["captions"], plan.jobs.get("stage2", 0)) == (1, 1, 0)


def test_the_presets_of_the_published_study_are_a_target(house: Any, tmp_path: Any) -> None:
    study, config = with_root(house, "published", tmp_path)
    plan = house.snakemake("presets", "--dry-run", config=config)
    assert plan.status == 0, plan.text
    assert plan.jobs["stage2"] == plan.jobs["stage1"] == len(study["presets"]) == 5
    assert {cell.split(".")[0] for cell in plan.cells("stage 2")} == set(study["presets"])


def test_a_wrong_config_ends_in_one_sentence(house: Any) -> None:
    config = house.write_config("wrong.yaml", projektors={"linear": {}})
    run = house.snakemake("--dry-run", config=config)
    assert run.status != 0 and "Traceback" not in run.text
    assert "unknown key 'projektors'; did you mean 'projectors'?" in run.text
    assert run.text.splitlines()[-1].startswith("siglip-study: config: unknown key")


@pytest.mark.parametrize("below", ["", "/results"])
def test_an_output_folder_that_is_a_file_is_told_before_anything_runs(
    house: Any, below: str
) -> None:
    (house.folder / "notes.txt").write_text("notes")
    config = house.write_config("file.yaml", output_dir=f"notes.txt{below}")
    for arguments in (["--dry-run"], ["preflight"]):
        run = house.snakemake(*arguments, config=config)
        assert run.status != 0 and "Traceback" not in run.text
        told = f"output_dir is notes.txt{below}, and {house.folder / 'notes.txt'} is no folder; exp"
        assert run.text.splitlines()[-1].startswith(f"siglip-study: {told}")


def test_an_unknown_projector_is_named_before_anything_runs(house: Any) -> None:
    config = house.write_config("unknown.yaml", projectors={"mine": {"type": "query_abstracter"}})
    run = house.snakemake("--dry-run", config=config)
    assert run.status != 0 and "Traceback" not in run.text
    expected = "siglip-study: projector 'query_abstracter' is unknown; expected 'query_abstractor'"
    assert run.text.splitlines()[-1].startswith(expected)


def test_the_catalogue_s_entry_plans_the_same_with_the_profile(house: Any, demo_plan: Any) -> None:
    entry = ("--snakefile", "workflow/Snakefile", "--workflow-profile", "profiles/local")
    plan = house.snakemake(*entry, "--dry-run")
    assert plan.status == 0, plan.text
    assert plan.jobs == demo_plan.jobs


RESOURCES = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings
with SnakemakeApi(OutputSettings(stdout=True)) as api:
    made = api.workflow(
        resource_settings=ResourceSettings(cores=1),
        config_settings=ConfigSettings(configfiles=[Path(sys.argv[1])]),
        snakefile=Path("Snakefile"),
    )
    made.dag()
    keys = ("gpu", "mem_mb", "runtime")
    def asked(rule, attempt):
        found = [rule.resources.get(key) for key in keys]
        made = [r.evaluate({}, attempt=attempt) if r.is_evaluable() else r for r in found]
        return [r.value for r in made]
    print(json.dumps({r.name: [asked(r, n) for n in (1, 3)] for r in made._workflow.rules}))
"""


def test_jobs_on_a_gpu_ask_for_the_config_s_memory_and_time_and_for_more_when_ended(
    house: Any,
) -> None:
    runtime = {"mem_mb": 3001, "runtime_minutes": 31, "gpus": 2}
    config = house.write_config("asked.yaml", runtime=runtime)
    done = subprocess.run(
        [sys.executable, "-c", RESOURCES, config], cwd=house.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    asked = json.loads(done.stdout.splitlines()[-1])
    for rule in ("stage1", "stage2"):
        assert asked[rule] == [[2, 3001, 31], [2, 9003, 93]], asked
    for rule in ("vision_features", "scorer_features", "captions"):
        assert asked[rule] == [[1, 3001, 31], [1, 9003, 93]], asked
    assert asked["score"] == [[None] * 3] * 2


def test_one_held_out_split_is_scored_on_both_halves_and_then_chosen(house: Any) -> None:
    data = {"splits": {"train": "train", "held_out": "report"}}
    stages = {name: {"batch_size": 8} for name in ("stage1", "stage2")}
    grid = {"learning_rate": [5e-4, 2e-3], "epochs": [1]}
    changes = {"data": data, "grid": grid, **stages}
    plan = house.snakemake("--dry-run", config=house.write_config("halved.yaml", **changes))
    assert plan.status == 0, plan.text
    # The held-out clips are checked together, then halved.
    assert (plan.jobs["clips"], plan.jobs["halves"]) == (2, 1)
    # Two projectors at two rates; the fresh seeds are planned when both halves have chosen.
    assert (plan.jobs["stage2"], plan.jobs["captions"], plan.jobs["select"]) == (4, 4, 1)
    assert (plan.jobs["score"], plan.jobs["tables"]) == (2, 1)
    changes["data"] = {**data, "cross_fit": False}
    plan = house.snakemake("--dry-run", config=house.write_config("apart.yaml", **changes))
    assert (plan.jobs["stage2"], plan.jobs["score"]) == (4, 2)


def test_a_workflow_of_ones_own_takes_it_as_a_module(house: Any, plain_plan: Any) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^```python\n(module .*?)^```$", readme, re.M | re.S)
    own = house.folder / "own.smk"
    own.write_text(block.replace("path/of/siglip-study", str(house.folder)), "utf-8")
    plan = house.snakemake(
        "study_all", "--dry-run", "--snakefile", own, config=house.write_config("plain.yaml")
    )
    assert plan.status == 0 and "arning" not in plan.text, plan.text
    jobs = {rule.removeprefix("study_"): count for rule, count in plan.jobs.items()}
    assert jobs == plain_plan.jobs
