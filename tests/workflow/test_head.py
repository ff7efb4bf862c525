"""One process leads a study: what becomes of it, and of its jobs, when that dies or code changes."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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


def wait(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def job_processes(folder: Path) -> list[int]:
    """Processes of a job's script that was started in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            inside = (entry / "cwd").resolve() == folder
        except OSError:
            continue  # it ended while we looked
        if inside and b"python" in words[0] and any(b"/scripts/" in word for word in words[1:]):
            found.append(int(entry.name))
    return found


def test_a_killed_head_takes_its_jobs_along_and_the_same_command_continues(
    house: Any, led: subprocess.Popen
) -> None:
    led.kill()
    again = house.snakemake(CLIPS, config=house.config)
    assert again.status == 0, again.text
    assert (house.folder / CLIPS).is_file()
    log = (house.folder / "results/logs/demo/all.log").read_text("utf-8")
    assert log.count("the run that started this job has ended") <= 1 and log.count("done in") == 1
    assert not job_processes(house.folder)
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
