"""What befalls a study on a cluster, on a real Slurm of one node: ``pytest -m slurm``.

One study, so that it stays short: its training is cancelled, runs out of time, finds edited code,
loses its head, and ends all the same, each time from where it was.
"""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from support import slurm

from siglip_study.config import load
from siglip_study.study.cells import TRAINED_ON
from siglip_study.study.grid import Study
from tools.fault_campaign import job_processes, wait

pytestmark = pytest.mark.slurm


#: Snakemake's plugin asks for its jobs' states ten seconds later each time, whatever is set.
IMPATIENT = """
import asyncio
_sleep = asyncio.sleep
asyncio.sleep = lambda delay, *result: _sleep(min(delay, 2), *result)
"""


@pytest.fixture(scope="module")
def house(new_house: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A house below a Slurm, with the shipped profile, in which all but the training is done."""
    if reason := slurm.why_not():
        pytest.skip(reason)
    impatient = tmp_path_factory.mktemp("impatient")
    (impatient / "sitecustomize.py").write_text(IMPATIENT, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(impatient), prepend=os.pathsep)
        made = new_house()
    stage = {"batch_size": 8, "gradient_accumulation": 1, "keep": "last"}
    made.config = made.write_config(
        "study.yaml",
        projectors={"linear": {}},
        stage1={**stage, "epochs": 5, "learning_rate": 3e-3},
        stage2=stage,
        grid={"learning_rate": [5e-4], "epochs": [5]},
        runtime={"device": "cpu", "save_minutes": 0.001, "mem_mb": 1500, "runtime_minutes": 10},
    )
    study = Study(load(made.config))
    (made.cell,) = (name for name, cell in study.cells.items() if cell.role == "tuning")
    made.first = study.cells[made.cell].stage1_name
    prepared = made.snakemake(
        study.paths.training_may_begin,
        *(study.paths.features(study.encoder_slug, split) for split in TRAINED_ON),
        config=made.config,
    )
    assert prepared.status == 0, prepared.text

    profile = yaml.safe_load((made.folder / "profiles/slurm/profile.yaml").read_text("utf-8"))
    asked = profile["default-resources"]
    asked |= {"slurm_partition": slurm.PARTITION, "mem_mb": "500 * attempt"}
    del asked["slurm_account"]
    # The plugin looks for the first time after 40 s.
    profile |= {"set-resources": {"stage1": {"runtime": "10 * attempt"}}}
    profile |= {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 5}
    (made.folder / "profiles/here").mkdir()
    (made.folder / "profiles/here/profile.yaml").write_text(yaml.safe_dump(profile), "utf-8")
    made.flags = ("--workflow-profile", "profiles/here")
    with slurm.running(tmp_path_factory.mktemp("slurm")):
        yield made


#: First lines, with the time, of the logs of jobs that were seen.
LIVES: set[str] = set()


class Head:
    """A ``snakemake`` that submits the cell's jobs, and what Slurm knows of them."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.said = house.folder / "said.txt"
        with self.said.open("w") as said:
            target = f"results/runs/{house.cell}/captions.json"
            self.process: subprocess.Popen = house.start(target, config=house.config, to=said)

    def ends(self) -> tuple[int, str]:
        return self.process.wait(timeout=600), self.said.read_text("utf-8")

    def job_in_the_middle(self, stage: str, name: str) -> str:
        """Wait until a job that was not seen before has saved a step; its number in Slurm."""
        log = self.house.folder / f"results/logs/{stage}/{name}.log"
        points = self.house.folder / "results/.resume"

        def saved() -> str:
            assert self.process.poll() is None, self.said.read_text("utf-8")
            told = log.read_text("utf-8") if log.is_file() else ""
            life = told.partition("\n")[0]
            if life in LIVES or "epoch" not in told or not list(points.glob(f"{name}-*/step-*")):
                return ""
            LIVES.add(life)
            return jobs("RUNNING")[0]

        return wait(saved)


def jobs(state: str) -> list[str]:
    return slurm.run("squeue", "-h", "-o", "%i", "--states", state).split()


def minutes(job: str) -> int:
    told = re.search(r"TimeLimit=00:(\d\d):00", slurm.run("scontrol", "show", "job", job))
    assert told is not None
    return int(told[1])


def test_a_job_out_of_time_and_a_cancelled_one_go_on_with_more_time_and_edited_code_is_refused(
    house: Any,
) -> None:
    head = Head(house)
    first = head.job_in_the_middle("stage1", house.first)
    assert minutes(first) == 10
    for process in job_processes(house.folder):
        os.kill(process, signal.SIGSTOP)  # as slow as can be
    slurm.run("scontrol", "update", f"JobId={first}", "EndTime=now")  # not a minute later
    wait(lambda: "JobState=TIMEOUT" in slurm.run("scontrol", "show", "job", first))
    second = head.job_in_the_middle("stage1", house.first)
    assert minutes(second) == 20
    slurm.run("scancel", second)
    third = head.job_in_the_middle("stage1", house.first)
    assert minutes(third) == 30

    rules = house.folder / "workflow/rules/report.smk"
    rules.write_text(rules.read_text("utf-8") + "# edited\n", "utf-8")
    status, said = head.ends()
    assert status != 0
    # The job that ran when the code was edited has ended well.
    assert (house.folder / f"results/stage1/{house.first}/stage.json").is_file()
    log = (house.folder / f"results/logs/stage1/{house.first}.log").read_text("utf-8")
    assert "continues at optimizer step" in log and "done in" in log
    assert said.splitlines()[-1].startswith(
        "siglip-study: the code of this study has changed since it was started; expected it as"
    )
    assert not (house.folder / f"results/runs/{house.cell}/cell.json").exists()


def test_an_interrupted_head_cancels_its_jobs_and_a_killed_one_has_no_second_writer(
    house: Any,
) -> None:
    head = Head(house)
    head.job_in_the_middle("stage2", house.cell)
    head.process.send_signal(signal.SIGINT)
    status, said = head.ends()
    assert status != 0
    wait(lambda: not jobs("RUNNING,PENDING,COMPLETING"))
    assert not (house.folder / "results/.resume/head.json").exists()

    head = Head(house)
    head.job_in_the_middle("stage2", house.cell)
    head.process.kill()
    head.process.wait()
    head = Head(house)
    status, said = head.ends()
    assert status == 0, said
    log = (house.folder / f"results/logs/stage2/{house.cell}.log").read_text("utf-8")
    assert "continues at optimizer step" in log and "done in" in log
    assert (house.folder / f"results/runs/{house.cell}/captions.json").is_file()
    assert not list((house.folder / ".snakemake/incomplete").iterdir())
