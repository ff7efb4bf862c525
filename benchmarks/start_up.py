"""What a training job costs beside its training: jobs of their own, then jobs in a kept process.

    python -m benchmarks.start_up --llm 0.6b
    python -m benchmarks.start_up --llm 8b

Two cells, both stages each, one job after the other as the workflow starts them, but without
Snakemake (`tools.job_series`); first with ``runtime.keep_loaded_s`` 0, then with it on. Overhead is
a job's wall time without its training loop and captions. The GPU's busy share is read every tenth
of a second.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from siglip_study.base.head import mark_head
from tools.job_series import MICRO, Job, Size, make_series

SIZES = {
    "micro": MICRO,
    "0.6b": Size("Qwen/Qwen3-0.6B", "nf4", 8, (16, 16), 384, 128, 60),
    "8b": Size("Qwen/Qwen3-8B", "nf4", 8, (24, 24), 1024, 32, 60),
}


@contextmanager
def busy_share() -> Iterator[list[float]]:
    """Samples of the GPU's utilisation, 0 to 1; none without a GPU."""
    samples: list[float] = []
    if not Path("/dev/nvidiactl").exists():
        yield samples
        return
    import pynvml  # type: ignore[import-not-found]

    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.1):
            samples.append(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def measure(job: Job) -> dict[str, Any]:
    """Wall time of a job and its parts, in seconds, and the GPU's busy share."""
    with busy_share() as busy:
        began = time.monotonic()
        done = subprocess.run(job.command(), capture_output=True, text=True)
        wall = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    facts = job.facts()
    row = {
        "wall_s": wall,
        "training_s": facts["train_s"],
        "captions_s": facts["captions_s"],
        "overhead_s": wall - facts["train_s"] - facts["captions_s"],
    }
    return {
        "job": job.name,
        "keep_loaded_s": job.config["runtime"]["keep_loaded_s"],
        **{key: round(value, 1) for key, value in row.items()},
        "gpu_busy": round(sum(busy) / len(busy), 2) if busy else None,
    }


def main() -> None:
    """Measure the series and print a line of JSON a job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llm", choices=SIZES, default="0.6b")
    parser.add_argument("--keep", type=float, nargs="*", default=[0.0, 60.0])
    parser.add_argument("--logs", type=Path, help="folder that the jobs' logs are copied to")
    options = parser.parse_args()
    mark_head()
    with TemporaryDirectory(prefix="siglip-study-start-up-") as name:
        for keep_s in options.keep:
            runtime = {"keep_loaded_s": keep_s}
            for job in make_series(Path(name), SIZES[options.llm], f"keep{keep_s:g}", runtime):
                print(json.dumps(measure(job)), flush=True)
                if options.logs is not None:
                    to = options.logs / f"{options.llm}-keep{keep_s:g}-{job.log.name}"
                    shutil.copy(job.log, to)


if __name__ == "__main__":
    main()
