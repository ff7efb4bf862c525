"""The rehearsal: what the configured study costs on this machine, before anything is fetched."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.io import atomic_path, write_json
from siglip_study.config.study import Config
from siglip_study.planning.budgets import SCHEMA, step_times_json
from siglip_study.planning.costs import (
    Key,
    by_tokens,
    caption_budget,
    estimates,
    measurements,
    merged,
    shape_name,
)
from siglip_study.planning.dataset import assumed_from_arguments, describe_dataset
from siglip_study.planning.estimate import llm_bytes
from siglip_study.planning.facts import (
    ASSUMED_PROMPT,
    ModelFacts,
    model_facts,
    prompt_at_hand,
    tokenizer_at_hand,
)
from siglip_study.planning.forecast import (
    GPUS,
    Disk,
    Forecast,
    Gpu,
    disk_needed,
    gpu_of_device,
    named_gpu,
)
from siglip_study.planning.preflight import existing_folder
from siglip_study.planning.rows import Cost, Row, gigabytes, rows_table
from siglip_study.planning.workload import Workload
from siglip_study.study.grid import Study

# ---- What a rehearsal found: as lines for a terminal, and as JSON.


@dataclass(frozen=True)
class Rehearsal:
    """The table, and what is said around it."""

    device: str
    how: str
    rows: list[Row]
    sources: tuple[str, ...]
    disk: Disk
    disk_free: int
    problems: list[str]
    elsewhere: list[str]
    runs: str
    training: dict[str, Any]
    seconds: float

    @property
    def hours(self) -> float:
        """Device hours of the whole study."""
        return sum(row.hours or 0.0 for row in self.rows)

    def text(self) -> str:
        """The whole of it as lines for a terminal."""
        disk = self.disk
        lines = [f"Rehearsal on {self.device}: {self.how}.", self.runs]
        lines += [f"  {source}" for source in self.sources]
        lines += ["", *rows_table(self.rows), ""]
        lines += [
            "Hours are device hours. Not in the table: decoding of clips and metrics (CPU).",
            f"Disk: features {gigabytes(disk.features)}, "
            f"checkpoints {gigabytes(disk.checkpoints)}, "
            f"running stage {gigabytes(disk.resume)}; {gigabytes(self.disk_free)} are free. "
            f"Models to fetch once: {gigabytes(disk.models)}.",
            *self.elsewhere,
        ]
        if self.problems:
            lines += ["What will not fit:", *(f"  {problem}" for problem in self.problems)]
        else:
            lines += ["Everything fits."]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """JSON types, for ``rehearsal.json``."""
        return {
            "device": self.device,
            "how": self.how,
            "runs": self.runs,
            "sources": list(self.sources),
            "rows": [row.as_json() for row in self.rows],
            "hours": self.hours,
            "training": self.training,
            "disk": asdict(self.disk) | {"free": self.disk_free},
            "problems": self.problems,
            "elsewhere": self.elsewhere,
            "seconds": self.seconds,
        }

    def write(self, folder: Path) -> None:
        """``rehearsal.json`` and ``rehearsal.txt`` in ``folder``."""
        write_json(folder / "rehearsal.json", self.as_json(), SCHEMA)
        with atomic_path(folder / "rehearsal.txt") as partial:
            partial.write_text(self.text() + "\n", encoding="utf-8")


#: Weights of an LLM that is also timed on a CPU: more would take too long.
_CPU_WEIGHTS = 100_000_000
#: Seconds a job takes before its model is loaded, and bytes read a second.
_IMPORTS_S, _READ_RATE = 10.0, 1.5e9


@dataclass(frozen=True)
class Assumptions:
    """What is taken for granted in place of what is on disk; None: counted, or a default."""

    clips: dict[str, int] | None = None
    caption_tokens: int | None = None
    gpu: str = "h200"
    presets: bool = False


def rehearse(config: Config, given: Assumptions | None = None) -> Rehearsal:
    """Time what the study will do where that is possible, estimate it where it is not.

    Raises:
        StudyError: a model's config or the dataset is there and wrong.
    """
    began = time.monotonic()
    given = given or Assumptions()
    facts = model_facts(config)
    tokenizer = tokenizer_at_hand(config)
    dataset = describe_dataset(config, tokenizer, given.clips, given.caption_tokens)
    workload = Workload(Study(config), dataset, given.presets)
    prompt = sum(ASSUMED_PROMPT)
    layout = prompt_at_hand(config, tokenizer, facts.llm.vocab)
    if tokenizer is not None:
        prompt = len(layout.before) + len(layout.after)
    forecast = Forecast(config, facts, dataset, prompt)

    device, gpu, measures = _device(config, facts, given)
    estimated = estimates(workload, forecast, gpu) if gpu else {}
    measured: dict[Key, Cost] = {}
    if measures:
        measured = measurements(workload, forecast, layout, tokenizer)
    rows = _rows(workload, forecast, estimated, measured)
    disk = disk_needed(workload, forecast)
    free = shutil.disk_usage(existing_folder(Path(config.output_dir))).free
    how = (
        "measured with random weights"
        if measures
        else "no GPU here, so estimated from FLOPs and bytes at 60 % of the stated rates"
    )
    return Rehearsal(
        device=device,
        how=how,
        rows=rows,
        sources=dataset.sources + _more_sources(config, forecast, tokenizer is not None),
        disk=disk,
        disk_free=free,
        problems=_problems(rows, disk, free, config),
        elsewhere=[] if measures else _elsewhere(workload, forecast),
        runs=_runs(workload),
        training=step_times_json(workload, estimated, measured),
        seconds=time.monotonic() - began,
    )


def _device(config: Config, facts: ModelFacts, given: Assumptions) -> tuple[str, Gpu | None, bool]:
    """Name of the device, the GPU whose rates estimates use, and whether anything is timed."""
    import torch

    from siglip_study.models.devices import pick_device

    if pick_device("cpu" if config.runtime.device == "cpu" else "auto").type == "cuda":
        name = torch.cuda.get_device_name()
        return name, gpu_of_device(name), True
    if facts.llm.layer_parameters <= _CPU_WEIGHTS:
        return "this machine's CPU", None, True
    gpu = named_gpu(given.gpu)
    return gpu.name, gpu, False


def _rows(
    workload: Workload,
    forecast: Forecast,
    estimated: dict[Key, Cost],
    measured: dict[Key, Cost],
) -> list[Row]:
    config, facts = workload.config, forecast.facts
    twin = by_tokens(workload, forecast)

    def row(key: Key, part: str, shape: str, unit: str, units: int) -> Row:
        return Row(part, shape, unit, units, estimated.get(key), measured.get(key))

    side = facts.vision.tokens
    rows = [
        row(
            Key("vision features"),
            "features",
            f"{config.vision.frames} frames × {side} tokens",
            "clip",
            workload.encoded_clips,
        ),
        row(
            Key("scorer images"),
            "scorer images",
            f"{config.scorer.frames} frames × {facts.scorer_images.tokens} tokens",
            "clip",
            workload.scored_clips,
        ),
    ]
    for shape, steps in workload.steps.items():
        name = shape_name(workload, shape)
        rows.append(row(Key("step", shape), f"stage {shape.stage}", name, "step", steps))
    budget, quick = caption_budget(workload), config.training.quick_tokens
    conditions = 2 + config.captions.shuffles
    parts = (
        ("validation", "clip", f"{budget} caption tokens", workload.validation),
        ("quick captions", "caption", f"{quick} new tokens", workload.quick_captions),
        ("captions", "caption", f"{budget} new tokens", workload.captions),
        ("conditions", "clip", f"{conditions} losses", workload.captions),
    )
    for part, unit, told, units in parts:
        for connector, n in merged(units, twin).items():
            shape_told = f"{forecast.sequence(connector).prompt} prompt, {told}"
            rows.append(row(Key(part, connector), part, shape_told, unit, n))
    texts = f"{forecast.texts_a_caption} texts × {facts.scorer_texts.tokens} tokens"
    rows.append(
        row(Key("scorer texts"), "scorer texts", texts, "caption", workload.scored_captions)
    )
    loading = _IMPORTS_S + llm_bytes(facts.llm, "none") / _READ_RATE
    rows.append(Row("loading", "imports, LLM (assumed)", "job", workload.jobs, Cost(loading), None))
    return rows


def _runs(workload: Workload) -> str:
    roles = Counter(cell.role for cell in workload.cells)
    listed = ", ".join(f"{n} {role}" for role, n in roles.items())
    return f"{len(workload.cells)} runs ({listed}) from {len(workload.stage1_cells)} first stages."


def _more_sources(config: Config, forecast: Forecast, has_tokenizer: bool) -> tuple[str, ...]:
    told = "" if has_tokenizer else ", assumed, since the tokenizer is not at hand"
    sources = [
        f"prompt around the video: {forecast.prompt_tokens} tokens{told}",
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


def _problems(rows: list[Row], disk: Disk, free: int, config: Config) -> list[str]:
    found = [f"{row.part}, {row.shape}: {row.cost.problem}" for row in rows if row.cost.problem]
    if disk.written > free:
        found.append(
            f"{config.output_dir}: {gigabytes(disk.written)} will be written and "
            f"{gigabytes(free)} are free"
        )
    return found


def _elsewhere(workload: Workload, forecast: Forecast) -> list[str]:
    """Hours on each GPU of the table."""
    lines = ["The same on one of these (estimated; GiB: the leanest stage-2 step):"]
    for gpu in GPUS.values():
        rows = _rows(workload, forecast, estimates(workload, forecast, gpu), {})
        hours = sum(row.hours or 0.0 for row in rows)
        problem = any(row.cost.problem for row in rows)
        least = max(row.cost.gib or 0.0 for row in rows if row.part.startswith("stage"))
        told = f"does not fit: {least:.0f} of {gpu.gib:.0f} GiB" if problem else f"{hours:.0f} h"
        lines.append(f"  {gpu.name:16} {told}")
    return lines


# ---- What the rehearsal's commands have in common: assumptions, and progress on standard error.


def add_assumptions(parser: argparse.ArgumentParser) -> None:
    """Options for what cannot be counted or timed here."""
    parser.add_argument("--gpu", choices=GPUS, default="h200", help="to estimate for without one")
    parser.add_argument("--train", type=int, help="training clips to assume")
    parser.add_argument("--held-out", type=int, help="held-out clips to assume")
    parser.add_argument("--caption-tokens", type=int, help="mean caption length to assume")


def given_assumptions(given: argparse.Namespace, presets: bool = False) -> Assumptions:
    """The options as given."""
    return Assumptions(
        clips=assumed_from_arguments(given.train, given.held_out),
        caption_tokens=given.caption_tokens,
        gpu=given.gpu,
        presets=presets,
    )


def show_progress() -> None:
    """The package's log goes to standard error."""
    log = logging.getLogger("siglip_study")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stderr))
