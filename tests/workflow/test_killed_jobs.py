"""A stage-2 job killed with SIGKILL at random steps ends with the bits of an undisturbed one.

Minutes long: ``pytest -m full tests/workflow``.
"""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tools.fault_campaign import wait

pytestmark = pytest.mark.full

KILLS = 3


def stage2_process(folder: Path) -> int | None:
    """Process id of the stage-2 script that Snakemake runs in this folder, if there is one."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it ended while we looked
        if "stage2.py" in command and str(folder) in command and "python" in command.split("\0")[0]:
            return int(entry.name)
    return None


def saved_step(house: Any, cell: str) -> int:
    """The optimizer step that a killed run of this cell would continue at."""
    points = (house.folder / "results/.resume").glob(f"{cell}-*/step-*")
    return max((int(point.name.removeprefix("step-")) for point in points), default=0)


def results_of(run: Path) -> dict[str, Any]:
    return {
        "projector": (run / "checkpoint/projector.safetensors").read_bytes(),
        "lora": (run / "checkpoint/lora/adapter_model.safetensors").read_bytes(),
        "captions": json.loads((run / "captions.json").read_text("utf-8"))["records"],
        "losses": (run / "losses.parquet").read_bytes(),
    }


def test_three_kills_change_no_bit(new_house: Callable[[], Any]) -> None:
    house = new_house()
    config = house.write_config(
        "kill.yaml",
        projectors={"linear": {}},
        grid={"learning_rate": [5e-4], "epochs": [40]},
    )
    plan = house.snakemake("-n", config=config)
    (cell,) = plan.cells("stage 2")
    target = f"results/runs/{cell}/captions.json"
    run = house.snakemake(target, config=config)
    assert run.status == 0, run.text[-4000:]
    folder = house.folder / f"results/runs/{cell}"
    steps = pl.read_parquet(folder / "steps.parquet").height
    undisturbed = results_of(folder)
    shutil.rmtree(folder)

    draw = random.Random(20)
    for kill in range(KILLS):
        process = house.start(target, config=config)
        step = int(steps * (kill + draw.random()) / (KILLS + 1))
        wait(lambda step=step: saved_step(house, cell) > step)
        script = stage2_process(house.folder)
        assert script is not None, "stage 2 ended before it was killed"
        os.kill(script, signal.SIGKILL)
        assert process.wait(timeout=120) != 0
        assert not (folder / "cell.json").exists()

    assert list((house.folder / "results/.resume").glob(f"{cell}-*/step-*"))
    last = house.snakemake(target, config=config)
    assert last.status == 0, last.text[-4000:]
    log = (house.folder / f"results/logs/stage2/{cell}.log").read_text("utf-8")
    assert "continues at optimizer step" in log
    assert results_of(folder) == undisturbed
    # The next jobs gave the resume points up.
    assert not list((house.folder / "results/.resume").glob("linear_*"))


def test_a_kill_as_the_job_exits_loses_no_work(new_house: Callable[[], Any]) -> None:
    house = new_house()
    config = house.write_config("kill.yaml", projectors={"linear": {}})
    (cell,) = house.snakemake("-n", config=config).cells("stage 2")
    made = house.snakemake(f"results/runs/{cell}/cell.json", config=config)
    assert made.status == 0, made.text[-4000:]
    # What Snakemake does after such a kill: the outputs go, the resume point stays.
    shutil.rmtree(house.folder / f"results/runs/{cell}")
    again = house.snakemake(f"results/runs/{cell}/cell.json", config=config)
    assert again.status == 0, again.text[-4000:]
    log = (house.folder / f"results/logs/stage2/{cell}.log").read_text("utf-8")
    assert "continues at optimizer step" in log and "epoch 1/1" not in log
