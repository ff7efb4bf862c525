"""Steps a second on one GPU and on two, at the same global batch.

Each number of ranks is a process of its own that launches them as a training job does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator

from benchmarks import inputs
from benchmarks.inputs import FULL, SIZES, Size
from benchmarks.tables import Result, Table
from benchmarks.timing import measure
from benchmarks.training import ProjectTrainer, prepare
from siglip_study.base.io import read_json, write_json
from siglip_study.models.llm import add_lora
from siglip_study.training.distributed import launch
from siglip_study.training.step import share_of

SCHEMA = "data_parallel/1"
RANKS = (1, 2)


@dataclass(frozen=True)
class Work:
    """A global batch, and how much of it one forward pass may take."""

    clips: int
    forward: int
    warmup: int
    repeats: int


def work_of(size: Size) -> Work:
    """Batch 4 with two accumulated passes, as the published runs of linear."""
    return Work(8, 4, 2, 6) if size is FULL else Work(4, 2, 1, 2)


def run(size: Size, device: torch.device) -> Result:
    """Time a stage-2 step of linear for each number of ranks."""
    seen = torch.cuda.device_count() if device.type == "cuda" else max(RANKS)
    if seen < max(RANKS):
        return Result(skipped=f"data-parallel training needs {max(RANKS)} GPUs; this has {seen}.")
    with TemporaryDirectory() as folder:
        found = {n: _launch(size, device, n, Path(folder) / f"{n}.json") for n in RANKS}
    work = work_of(size)
    table = Table(
        f"Data-parallel training: linear, stage 2, {work.clips} clips a step",
        ["ranks", "s a step", "steps/s", "against one", "peak GiB a rank"],
    )
    alone = found[1]["seconds"]
    for ranks, measured in found.items():
        seconds = measured["seconds"]
        table.rows.append([str(ranks), seconds, 1 / seconds, alone / seconds, measured["peak_gib"]])
    table.notes = [f"Median of {work.repeats} steps over batches of differing caption lengths."]
    result = Result([table])
    result.parts = {f"data_parallel/{n}": measured["seconds"] for n, measured in found.items()}
    apart = abs(found[max(RANKS)]["loss"] / found[1]["loss"] - 1)
    result.agreement[f"loss of the first step on {max(RANKS)} ranks and on one"] = apart
    return result


def _launch(size: Size, device: torch.device, ranks: int, out: Path) -> dict[str, float]:
    job = ["-m", "benchmarks.data_parallel", size.name, device.type, str(ranks), str(out)]
    subprocess.run([sys.executable, *job], check=True)
    found: dict[str, float] = read_json(out, SCHEMA)
    return found


def train_share(accelerator: Accelerator, name: str, out: Path) -> None:
    """One rank: build the model, take its share of every step, time it; rank 0 reports."""
    size = SIZES[name]  # by its name: a size that was pickled would be none of these
    work = work_of(size)
    llm = add_lora(inputs.llm(size, accelerator.device), size.lora)
    inputs.set_lora(llm, 0.0)
    model = inputs.vlm(size, "linear", llm)
    low, high = list(size.training_lengths.values())[-1]
    plan = prepare(model, work.forward, high, size, None, accelerator)
    trainer = ProjectTrainer(model, plan, accelerator)

    steps = work.warmup + work.repeats
    drawn = inputs.caption_lengths(low, high, steps * work.clips)
    features = inputs.features(size, work.clips).to(accelerator.device)
    losses: list[torch.Tensor] = []

    def step(i: int) -> None:
        lengths = drawn[i * work.clips : (i + 1) * work.clips]
        captions = inputs.captions(size, lengths, seed=i)
        own = share_of(lengths, accelerator.process_index, accelerator.num_processes)
        losses.append(trainer.step(features[own], [captions[j] for j in own], sum(lengths)))

    timing = measure(step, accelerator.device, warmup=work.warmup, repeats=work.repeats)
    if accelerator.is_main_process:
        facts = {"seconds": timing.seconds, "peak_gib": timing.peak_gib, "loss": float(losses[0])}
        write_json(out, facts, SCHEMA)


if __name__ == "__main__":
    # By its name: a rank finds the function in a module that it imports.
    from benchmarks.data_parallel import train_share as work

    parser = argparse.ArgumentParser(prog="python -m benchmarks.data_parallel")
    parser.add_argument("size", choices=sorted(SIZES))
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("ranks", type=int)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    if given.device == "cpu":
        torch.set_num_threads(1)
    launch(work, given.ranks, torch.device(given.device), given.size, given.out)
