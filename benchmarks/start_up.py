"""What a training job costs beside its training: jobs of their own, then jobs in a kept process.

Run with: python -m benchmarks.start_up --llm 0.6b --out benchmarks/measured/my-gpu.json

Two cells, both stages each, one job after the other as the workflow starts them, but without
Snakemake (`tools.job_series`); first with ``runtime.keep_loaded_s`` 0, then with it on. Overhead is
a job's wall time without its training loop and captions. The GPU's busy share is read every tenth
of a second.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.run import SCHEMA, facts, keep
from benchmarks.tables import Result, Table
from siglip_study.base.head import mark_head
from siglip_study.base.io import read_json
from tools.job_series import MICRO, Job, Size, make_series

SIZES = {
    "micro": MICRO,
    "0.6b": Size("Qwen/Qwen3-0.6B", "nf4", 8, (16, 16), 384, 128, 60),
    "8b": Size("Qwen/Qwen3-8B", "nf4", 8, (24, 24), 1024, 32, 60),
}
#: How jobs run → ``runtime.keep_loaded_s``.
WAYS = {"alone": 0.0, "kept": 60.0}
NAME = "start_up"


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


def measure(job: Job) -> dict[str, float]:
    """Wall time of a job and its parts, in seconds, and the GPU's busy share (0 to 1)."""
    with busy_share() as busy:
        began = time.monotonic()
        done = subprocess.run(job.command(), capture_output=True, text=True)
        wall = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    facts = job.facts()
    figures = {
        "wall": wall,
        "training": facts["train_s"],
        "captions": facts["captions_s"],
        "overhead": wall - facts["train_s"] - facts["captions_s"],
    }
    return figures | ({"busy": sum(busy) / len(busy)} if busy else {})


def series(llm: str, folder: Path, logs: Path | None) -> dict[str, float]:
    """Measure a model's jobs in either way: ``start_up/<llm>/<job>/<way>/<figure>``."""
    parts: dict[str, float] = {}
    for way, keep_s in WAYS.items():
        for job in make_series(folder, SIZES[llm], way, {"keep_loaded_s": keep_s}):
            found = measure(job)
            parts |= {f"{NAME}/{llm}/{job.name}/{way}/{key}": v for key, v in found.items()}
            shown = ", ".join(f"{key} {value:.2f}" for key, value in found.items())
            print(f"    {llm}, {job.name}, {way}: {shown}", flush=True)
            if logs is not None:
                shutil.copy(job.log, logs / f"{llm}-{way}-{job.log.name}")
    return parts


def table(parts: dict[str, float]) -> Result:
    """A row a job, of all models that were measured."""
    columns = ["job", "alone: training s", "overhead s", "GPU busy"]
    columns += ["in a kept process: training s", "overhead s", "GPU busy"]
    made = Table("Start-up of training jobs, alone and in a kept process", columns)
    for job in dict.fromkeys(key.rpartition("/")[0].rpartition("/")[0] for key in parts):
        figures = [f"{way}/{key}" for way in WAYS for key in ("training", "overhead", "busy")]
        _, llm, name = job.split("/")
        row = [parts.get(f"{job}/{figure}") for figure in figures]
        made.rows.append([f"{llm.upper()}, {name}", *row])
    made.notes = [
        "Overhead: wall time of a job's process without training loop and captions. One run, in "
        "this order, all jobs alone first: the first two of them find nothing compiled. Random "
        f"weights in NF4; {SIZES['0.6b'].clips} training clips (0.6B) or {SIZES['8b'].clips} (8B), "
        "one epoch: cells so small that little else is left. Training includes the epoch's "
        "validation and quick captions, and compilation that comes late.",
    ]
    return Result([made], parts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_up", description=__doc__)
    parser.add_argument("--llm", choices=SIZES, default="0.6b")
    parser.add_argument("--out", type=Path, help="JSON file; what it holds of others stays")
    parser.add_argument("--logs", type=Path, help="folder that the jobs' logs are copied to")
    options = parser.parse_args()
    mark_head()
    with TemporaryDirectory(prefix="siglip-study-start-up-") as name:
        parts = series(options.llm, Path(name), options.logs)
    if options.out is not None and options.out.is_file():
        earlier = read_json(options.out, SCHEMA)["benchmarks"].get(NAME, {"parts": {}})["parts"]
        parts = {k: v for k, v in earlier.items() if f"/{options.llm}/" not in k} | parts
    result = table(parts)
    print(result.text())
    if options.out is not None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        keep(options.out, NAME, {"size": "full", **result.as_json(), **facts(device)})


if __name__ == "__main__":
    main()
