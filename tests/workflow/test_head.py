"""One process leads a study: what becomes of it and its jobs when that dies or code changes."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tools.fault_campaign import job_processes, wait

CLIPS = "results/data/clips/train.parquet"


@pytest.fixture
def house(new_house: Callable[[], Any]) -> Any:
    made = new_house()
    made.config = made.write_config("study.yaml")
    return made


@pytest.fixture
def led(house: Any) -> Iterator[subprocess.Popen]:
    """The head of a study, stopped in the middle of the job that makes the demo's clips."""
    head = house.start(CLIPS, config=house.config)
    log = house.folder / "results/logs/demo/all.log"
    wait(lambda: job_processes(house.folder) and log.exists())
    yield head
    head.kill()
    head.wait()


def test_a_killed_head_takes_its_jobs_along_and_the_same_command_continues(
    house: Any, led: subprocess.Popen
) -> None:
    led.kill()
    again = house.snakemake(CLIPS, config=house.config)
    assert again.status == 0, again.text
    assert (house.folder / CLIPS).is_file()
    log = (house.folder / "results/logs/demo/all.log").read_text("utf-8")
    assert log.count("the run that started this job has ended") <= 1 and log.count("done in") == 1
    # Nor is one left of those that the killed job had started.
    wait(lambda: not job_processes(house.folder))
    assert not (house.folder / "results/.resume/head.json").exists()


def test_a_living_head_is_never_run_over(house: Any, led: subprocess.Popen) -> None:
    led.send_signal(signal.SIGSTOP)
    lives = f"process {led.pid} on {os.uname().nodename} is running this study"
    for arguments in ([CLIPS], ["--unlock"], [CLIPS]):
        other = house.snakemake(*arguments, config=house.config)
        assert lives in other.text
    assert other.status != 0
    led.send_signal(signal.SIGCONT)
    assert led.wait(timeout=120) == 0


def test_a_job_refuses_code_that_is_not_the_one_the_study_was_started_with(
    house: Any, led: subprocess.Popen
) -> None:
    rules = house.folder / "workflow/rules/train.smk"
    rules.write_text(rules.read_text("utf-8") + "# edited\n", "utf-8")
    assert led.wait(timeout=120) != 0
    # The job that was running, had it not asked yet, else the next one.
    logs = [path.read_text("utf-8") for path in (house.folder / "results/logs").rglob("*.log")]
    sentence = "siglip-study: the code of this study has changed since it was started; expected"
    assert any(log.splitlines()[-1].startswith(sentence) for log in logs)
    again = house.snakemake(CLIPS, config=house.config)
    assert again.status == 0, again.text
