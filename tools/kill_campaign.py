"""Kill -9 in the middle of a series of jobs that run in a kept process, at random moments.

    python -m tools.kill_campaign --kills 10

Two micro cells, two stages each, on the CPU. Each kill hits a job's process or the one that is
kept. After it, what finished jobs have left must be as it was, byte for byte and untouched; in the
end every job's weights, history, captions and losses must have the bits of a series that nobody
disturbed, whose jobs had a process to themselves. Takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.head import mark_head
from siglip_study.base.jobs import exit_status
from tools.job_series import MICRO, Job, make_series

#: Waits; whether the moment of a kill has come, and not the end of the job.
Moment = Callable[["subprocess.Popen[str]", Job], bool]


class RandomMoment:
    """Any moment of a job, from its start on; how long one takes is learnt on the way."""

    def __init__(self, draw: random.Random) -> None:
        self._draw, self._longest = draw, 10.0  # s

    def __call__(self, process: subprocess.Popen[str], job: Job) -> bool:
        began = time.monotonic()
        try:
            process.wait(self._draw.uniform(0.02, 0.95) * self._longest)
        except subprocess.TimeoutExpired:
            return True
        self._longest = min(self._longest, time.monotonic() - began)
        return False


def results(job: Job) -> dict[str, Any]:
    """Everything of a job that must repeat: files but for clocks."""
    import polars as pl

    found: dict[str, Any] = {
        str(path.relative_to(job.out)): path.read_bytes()
        for path in sorted(job.out.rglob("*.safetensors"))
    }
    for name in ("steps", "epochs"):
        table = pl.read_parquet(job.out / f"{name}.parquet")
        found[name] = table.drop("seconds").to_dicts()
    if job.stage == 2:
        found["losses"] = pl.read_parquet(job.out / "losses.parquet").to_dicts()
        captions = json.loads((job.out / "captions.json").read_text("utf-8"))
        found["captions"] = captions["records"]
    return found


def touched(jobs: Sequence[Job]) -> dict[Path, tuple[int, bytes]]:
    """Time and content of every file that these jobs have left."""
    files = (path for job in jobs for path in job.out.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def disturb(jobs: Sequence[Job], kills: int, moment: Moment, draw: random.Random) -> int:
    """Run the jobs with up to ``kills`` kills; how many there were.

    Raises:
        StudyError: a kill has touched a finished job, or a job ended in another way.
    """
    killed = 0
    for number, job in enumerate(jobs):
        finished = touched(jobs[:number])
        quota = -(-(kills - killed) // (len(jobs) - number))
        while (process := start(job)) and quota > 0 and moment(process, job):
            kill(process, job, draw)
            quota, killed = quota - 1, killed + 1
            if touched(jobs[:number]) != finished:
                raise StudyError(
                    f"{job.name}: a kill has touched what an earlier job had left; expected it "
                    "to take its own work alone."
                )
            # As Snakemake does: outputs of a failed job go, its resume point stays.
            shutil.rmtree(job.out, ignore_errors=True)
        raise_unless_well(process, job)
    return killed


def start(job: Job) -> subprocess.Popen[str]:
    """Start a job's process."""
    job.running.unlink(missing_ok=True)
    return subprocess.Popen(
        job.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def raise_unless_well(process: subprocess.Popen[str], job: Job) -> None:
    """Wait for a job that is left alone."""
    said = process.communicate()[1]
    if process.returncode:
        raise StudyError(f"{job.name} ended with status {process.returncode}: {said[-500:]}")


def kill(process: subprocess.Popen[str], job: Job, draw: random.Random) -> None:
    """Kill -9 the job's own process, or the kept one that works for it."""
    victims = [process.pid]
    if job.running.exists():
        victims.append(int(job.running.read_text("utf-8") or process.pid))
    victim = draw.choice(victims)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.communicate()
    own = "own process" if victim == process.pid else "kept process"
    points = sorted((job.out.parent / ".resume" / job.out.name).glob("step-*"))
    at = points[-1].name if points else "the start"
    print(f"killed the {own} of {job.name}, which goes on from {at}", flush=True)


def campaign(
    folder: Path,
    kills: int,
    draw: random.Random,
    moment: Moment,
    stages: Sequence[int] = (1, 2),
    alone: Callable[[Job], None] = lambda job: raise_unless_well(start(job), job),
) -> int:
    """Disturb series until there were so many kills; how many results were compared.

    ``alone`` runs a job of the undisturbed series.

    Raises:
        StudyError: a result differs from that of the undisturbed series.
    """
    mark_head()

    def series(name: str, keep_s: float) -> list[Job]:
        runtime = {"device": "cpu", "keep_loaded_s": keep_s, "save_minutes": 1e-9}
        jobs = make_series(folder, MICRO, name, runtime, on_cpu=True)
        return [job for job in jobs if job.stage in stages]

    undisturbed = series("alone", 0.0)
    for job in undisturbed:
        alone(job)
    killed, rounds = 0, 0
    while killed < kills:
        rounds += 1
        disturbed = series(f"killed{rounds}", 120.0)
        killed += disturb(disturbed, kills - killed, moment, draw)
        for one, two in zip(undisturbed, disturbed, strict=True):
            found, expected = results(two), results(one)
            differing = [key for key in expected if found.get(key) != expected[key]]
            if differing or found.keys() != expected.keys():
                raise StudyError(
                    f"{two.name}: {', '.join(differing)} differ from the undisturbed series; "
                    "expected the same bits."
                )
    return rounds * len(undisturbed)


def main() -> int:
    """Run the campaign and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="siglip-study-kills-") as name:
        draw = random.Random(options.seed)
        compared = campaign(Path(name), options.kills, draw, RandomMoment(draw))
    print(f"{options.kills} kills: finished jobs untouched, {compared} results bit-identical")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
