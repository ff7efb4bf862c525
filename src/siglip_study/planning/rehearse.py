"""The rehearsal: what the configured study costs on this machine, before anything is fetched."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from siglip_study.base.io import atomic_path, write_json
from siglip_study.config.study import Config
from siglip_study.planning.estimate import GPUS, Cost, Disk, Forecast, Gpu, Row, gpu_of_device
from siglip_study.planning.workload import Assumptions, connector_of, stage_shape

#: Schema of ``rehearsal.json``.
REHEARSAL_SCHEMA = "rehearsal/2"
_CPU = "this machine's CPU"
#: Weights of an LLM that is also timed on a CPU, where the study is meant for one and where not:
#: more would take too long.
_CPU_WEIGHTS = {"cpu": 1_000_000_000, "auto": 100_000_000, "cuda": 100_000_000}


@dataclass(frozen=True)
class Rehearsal:
    """The table, and what is said around it."""

    device: str
    how: str
    wall: str
    runs: str
    sources: tuple[str, ...]
    rows: list[Row]
    training: dict[str, Any]
    disk: Disk
    disk_free: int
    problems: list[str]
    elsewhere: list[str]
    seconds: float

    @property
    def hours(self) -> float:
        """Device hours of the whole study."""
        return sum(row.hours or 0.0 for row in self.rows)

    def text(self) -> str:
        """The whole of it as lines for a terminal."""
        disk, problems = self.disk, [f"  {problem}" for problem in self.problems]
        lines = [
            f"Rehearsal on {self.device}: {self.how}.",
            self.runs,
            *(f"  {source}" for source in self.sources),
            "",
            *rows_table(self.rows),
            "",
            self.wall,
            f"Disk: features {gigabytes(disk.features)}, "
            f"checkpoints {gigabytes(disk.checkpoints)}, "
            f"running stage {gigabytes(disk.resume)}; {gigabytes(self.disk_free)} are free. "
            f"Models to fetch once: {gigabytes(disk.models)}.",
            *self.elsewhere,
            *(["What will not fit:", *problems] if problems else ["Everything fits."]),
        ]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """JSON types, for ``rehearsal.json``."""
        body = asdict(self) | {"hours": self.hours}
        for told, row in zip(body["rows"], self.rows, strict=True):
            told["hours"] = row.hours
            del told["about"]
        body["disk"]["free"] = body.pop("disk_free")
        return body

    def write(self, folder: Path) -> None:
        """``rehearsal.json`` and ``rehearsal.txt`` in ``folder``."""
        write_json(folder / "rehearsal.json", self.as_json(), REHEARSAL_SCHEMA)
        with atomic_path(folder / "rehearsal.txt") as partial:
            partial.write_text(self.text() + "\n", encoding="utf-8")


def rehearse(config: Config, given: Assumptions | None = None) -> Rehearsal:
    """Time what the study will do where that is possible, estimate it where it is not.

    Raises:
        StudyError: a model's config or the dataset is there and wrong.
    """
    began = time.monotonic()
    forecast = Forecast(config, given)
    device, gpu, measures = _device(forecast)
    on_cpu = device == _CPU
    rows = []
    for part in forecast.parts:
        own = _estimated(part, gpu, on_cpu)
        if measures:
            from siglip_study.planning.measure import measurements

            found = measurements(part, own)
            own = [replace(row, measured=found.get(row)) for row in own]
        rows += own
    disk, works = forecast.disk(), [part.workload for part in forecast.parts]
    roles = Counter(cell.role for work in works for cell in work.cells)
    listed = ", ".join(f"{n} {role}" for role, n in roles.items())
    free = shutil.disk_usage(existing_folder(Path(config.output_dir))).free
    return Rehearsal(
        device=device,
        how="measured with random weights"
        if measures
        else "no GPU here, so estimated from FLOPs and bytes at 60 % of the stated rates",
        wall=_wall_time(config, rows)
        if on_cpu
        else "Hours are device hours. Not in the table: decoding of clips and metrics (CPU).",
        runs=f"{roles.total()} runs ({listed}) from "
        f"{sum(len(work.stage1_cells) for work in works)} first stages.",
        sources=_sources(forecast.parts[0]),
        rows=rows,
        training=training_record(forecast, rows),
        disk=disk,
        disk_free=free,
        problems=problems(rows, disk, free, config.output_dir),
        elsewhere=[] if measures else _elsewhere(forecast),
        seconds=time.monotonic() - began,
    )


def _device(forecast: Forecast) -> tuple[str, Gpu | None, bool]:
    """Name of the device, the GPU whose rates estimates use, and whether anything is timed."""
    import torch

    from siglip_study.models.devices import pick_device

    if pick_device("cpu" if forecast.config.runtime.device == "cpu" else "auto").type == "cuda":
        name = torch.cuda.get_device_name()
        return name, gpu_of_device(name), True
    largest = max(part.models.llm.layer_parameters for part in forecast.parts)
    if largest <= _CPU_WEIGHTS[forecast.config.runtime.device]:
        return _CPU, None, True
    gpu = GPUS[forecast.given.gpu]
    return gpu.name, gpu, False


def _estimated(forecast: Forecast, gpu: Gpu | None, on_cpu: bool = False) -> list[Row]:
    rows = forecast.rows(on_cpu)
    if gpu is None:
        return rows
    return [replace(r, estimated=r.estimated or forecast.cost(r, gpu)) for r in rows]


def _wall_time(config: Config, rows: Sequence[Row]) -> str:
    """How long the cores of this machine will take."""
    cores = len(os.sched_getaffinity(0))
    jobs = max(1, cores // (config.runtime.cpu_threads or cores))
    minutes = 60 * sum(row.hours or 0.0 for row in rows) / jobs
    return f"Hours are a job's; {jobs} at a time on this machine: about {minutes:.0f} min in all."


def _elsewhere(forecast: Forecast) -> list[str]:
    """Hours on each GPU of the table."""
    lines = ["The same on one of these (estimated; GiB: the leanest stage-2 step):"]
    for gpu in GPUS.values():
        rows = [row for part in forecast.parts for row in _estimated(part, gpu)]
        told = f"{sum(row.hours or 0.0 for row in rows):.0f} h"
        if any(row.cost.problem for row in rows):
            least = max(row.cost.gib or 0.0 for row in rows if row.part.startswith("stage"))
            told = f"does not fit: {least:.0f} of {gpu.gib:.0f} GiB"
        lines.append(f"  {gpu.name:16} {told}")
    return lines


def _sources(forecast: Forecast) -> tuple[str, ...]:
    """Where what is not measured comes from, a sentence each."""
    config, layout = forecast.config, forecast.layout
    assumed = ", assumed, since the tokenizer is not at hand" if forecast.tokenizer is None else ""
    around = len(layout.before) + len(layout.after)
    sources = [
        *forecast.dataset.sources,
        f"prompt around the video: {around} tokens{assumed}",
        "chosen cells taken to have the longest budget; captions as long as the references",
    ]
    if config.cross_fit:
        sources.append(
            "both halves of the held-out split taken to choose the same cells; a projector whose "
            "halves differ has its report runs twice"
        )
    if config.runtime.gpus > 1:
        sources.append(
            f"timed on one GPU; {config.runtime.gpus} work on each training, so that its wall time "
            "is shorter and its device hours are about the same"
        )
    return tuple(sources)


def problems(rows: Sequence[Row], disk: Disk, free: int, folder: str) -> list[str]:
    """What fits neither the GPU nor the disk of ``folder``, a sentence each."""
    found = [f"{row.part}, {row.shape}: {row.cost.problem}" for row in rows if row.cost.problem]
    if disk.written > free:
        found.append(
            f"{folder}: {gigabytes(disk.written)} will be written and {gigabytes(free)} are free"
        )
    return found


def existing_folder(path: Path) -> Path:
    """The nearest folder of a path that exists."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


# ---- Seconds of each projector's optimizer steps, which budgets of equal time are made of.


_TIMED = (
    *("vision.model", "vision.frames"),
    *("llm.model", "llm.quantization", "llm.matmul", "llm.lora.r", "llm.lora.targets"),
    "training.max_target_tokens",
    *(f"runtime.{key}" for key in ("device", "memory_gb", "checkpointing", "compile")),
    *("stage1.batch_size", "stage1.gradient_accumulation"),
    *("stage2.batch_size", "stage2.gradient_accumulation"),
)


def training_record(forecast: Forecast, rows: Sequence[Row]) -> dict[str, Any]:
    """Training clips, settings that steps depend on, and each compared projector's steps."""
    config, costs = forecast.config, {row.about: row.cost for row in rows}
    steps: dict[str, list[dict[str, Any]]] = {}
    for cell in forecast.study.tuning:
        steps[cell.label] = []
        for stage, settings in enumerate((config.stage1, config.stage2), start=1):
            shape = stage_shape(stage, connector_of(cell.run), settings)
            cost = costs.get(shape, Cost(None))
            steps[cell.label].append({"seconds": cost.seconds, "problem": cost.problem})
    return {
        "train_clips": forecast.dataset.clips["train"],
        "settings": timed_settings(config),
        "steps": steps,
    }


def timed_settings(config: Config) -> dict[str, Any]:
    """The keys on which the time of an optimizer step depends, by dotted name."""
    found: dict[str, Any] = {key: attrgetter(key)(config) for key in _TIMED}
    found["llm.lora.targets"] = list(config.llm.lora.targets)
    for label, projector in config.projectors.items():
        found[f"projectors.{label}.type"] = projector.type or label
        found[f"projectors.{label}.options"] = projector.options
    return found


# ---- The table for a terminal.

_HEAD = ("part", "shape", "unit", "units", "measured s", "estimated s", "GPU GiB", "hours")


def rows_table(rows: Sequence[Row]) -> list[str]:
    """Lines of a table: a head, a rule, a line a row, the sum."""
    body = [_cells(row) for row in rows]
    total = sum(row.hours or 0.0 for row in rows)
    body.append(("all", *[""] * 6, _hours(total)))
    widths = [max(map(len, column)) for column in zip(_HEAD, *body, strict=True)]
    lines = [_HEAD, tuple("-" * width for width in widths), *body]
    return [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _cells(row: Row) -> tuple[str, ...]:
    gib = row.cost.gib
    return (
        row.part,
        row.shape,
        row.unit,
        f"{row.units}",
        *(_seconds(cost or Cost(None)) for cost in (row.measured, row.estimated)),
        "-" if gib is None else f"{gib:.2g}" if gib < 10 else f"{gib:.0f}",
        "-" if row.hours is None else _hours(row.hours),
    )


def _seconds(cost: Cost) -> str:
    if cost.seconds is None:
        return "no fit" if cost.problem else "-"
    return f"{cost.seconds:.3g}"


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 0.1 else f"{hours:.4f}"


def gigabytes(amount: float) -> str:
    """Bytes in GB, three digits."""
    return f"{amount / 1e9:.3g} GB"


# ---- What the commands have in common.


def add_assumptions(parser: argparse.ArgumentParser) -> None:
    """The config, and options for what cannot be counted or timed here."""
    parser.add_argument("config", type=Path)
    parser.add_argument("--gpu", choices=GPUS, default="h200", help="to estimate for without one")
    parser.add_argument("--train", type=int, help="training clips to assume")
    parser.add_argument("--held-out", type=int, help="held-out clips to assume")
    parser.add_argument("--caption-tokens", type=int, help="mean caption length to assume")
    parser.set_defaults(presets=False)


def rehearse_and_write(
    config: Config, given: argparse.Namespace, folder: Path | None = None
) -> Rehearsal:
    """Rehearse with the options of :func:`add_assumptions`; write what was found.

    Progress goes to standard error, the two files to ``folder`` (None: ``output_dir``).
    """
    log = logging.getLogger("siglip_study")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stderr))
    assumed = {field.name: getattr(given, field.name) for field in fields(Assumptions)}
    found = rehearse(config, Assumptions(**assumed))
    found.write(folder or Path(config.output_dir))
    return found
