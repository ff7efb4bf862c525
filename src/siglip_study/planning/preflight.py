"""Checks in seconds, before any GPU time: config, models, data, disk, GPU, report."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from siglip_study.base.errors import ClipError, StudyError
from siglip_study.config.study import Config
from siglip_study.data.decoding import Decoder
from siglip_study.data.layouts import scan_split
from siglip_study.planning.estimate import OVERHEAD_BYTES, Forecast
from siglip_study.planning.model_checks import (
    Level,
    Told,
    check_bertscore,
    check_llm,
    check_projectors,
    check_scorer_model,
    check_tokenizer,
    check_vision,
)
from siglip_study.planning.rehearse import existing_folder, gigabytes
from siglip_study.training.memory import GIB

#: Clips of a split below which its intervals say little.
_FEW_CLIPS = 20


@dataclass(frozen=True)
class Finding:
    """One line: how it stands, what was looked at, and a sentence."""

    level: Level
    what: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level:8}{self.what}: {self.sentence}"


def preflight(config: Config) -> list[Finding]:
    """Every finding of every check; one that cannot be finished is a failure, not the end."""
    forecast = Forecast(config)
    findings = []
    for what, check in CHECKS.items():
        try:
            for level, told in check(forecast):
                findings.append(Finding(level, what, told))
        except StudyError as error:
            findings.append(Finding("failed", what, str(error)))
    return findings


def verdict(findings: list[Finding]) -> tuple[bool, str]:
    """Whether the study may start, and a sentence that counts what was found."""
    failed, warnings = (sum(f.level == level for f in findings) for level in ("failed", "warning"))
    told = f"{failed} failed, {warnings} warnings, {len(findings)} findings"
    return failed == 0, f"preflight: {'not ready' if failed else 'ready'} ({told})."


def check_config(forecast: Forecast) -> Told:
    """How much the config asks for. (That it is valid is known: it was read.)"""
    study, config = forecast.study, forecast.config
    study.cells  # noqa: B018 (raises where two cells are one run)
    seeds = len(config.seeds.report)
    told = f"{len(config.projectors)} projectors, {len(study.tuning)} tuning cells"
    yield "ok", f"{told}, {seeds} report seeds, {len(study.controls)} runs of controls."
    if seeds < 2:
        yield "warning", "one report seed; without a second there are no ranks."


# ---- Is the dataset there, does it have what the config names, and can its clips be read?


def check_data(forecast: Forecast) -> Told:
    """Folder, splits, labels; one clip of each split is decoded."""
    config = forecast.config
    data, root = config.data, config.data_root
    if root.is_dir():
        for split, folder in data.splits.items():
            yield from _split(config, root, split, folder)
    elif config.demo is not None and data.root is None:
        yield "ok", f"the demo's clips will be made in {root}."
    else:
        yield "failed", f"data.root is {root}, and there is no such folder."


def _split(config: Config, root: Path, split: str, folder: str) -> Told:
    try:
        scan = scan_split(config.data, root, folder)
    except StudyError as error:
        yield "failed", str(error)
        return
    count, rejected = len(scan.clips), scan.rejected
    if not count:
        reasons = "; ".join(f"{r.path}: {r.reason}" for r in rejected[:2])
        found = f" ({len(rejected)} rejected: {reasons})" if rejected else ""
        yield "failed", f"{split} ({root / folder}) has no usable clip with a label{found}."
        return
    if rejected:
        told = f"{len(rejected)} rejected, the first {rejected[0].path}: {rejected[0].reason}"
        yield "warning", f"{split}: {count} clips with labels, {told}."
    else:
        yield "ok", f"{split}: {count} clips with labels."
    if split != "train" and count < _FEW_CLIPS:
        yield "warning", f"{split}: {count} clips; intervals will be wide."
    if split == "held_out" and len({clip.group for clip in scan.clips}) < 2:
        yield "failed", f"{split}: one source video; expected two, to halve the split."
    # The first clip, read as the encoder will.
    path = scan.clips[0].path
    try:
        frames = Decoder(config.data.decoder).read(root / path, config.vision.frames)
    except ClipError as error:
        # One clip may be broken; the manifest rejects it by name.
        yield "warning", f"{split}: {path} cannot be decoded ({error})."
    else:
        yield "ok", f"{split}: {path} decodes, {frames.shape[2]}×{frames.shape[1]} pixels."


# ---- Is there room: on disk, on the GPU, and for the report?


def check_disk(forecast: Forecast) -> Told:
    """Features and checkpoints fit the disk of the output folder."""
    folder = existing_folder(Path(forecast.config.output_dir))
    free, needed = shutil.disk_usage(folder).free, forecast.disk().written
    level: Level = "failed" if needed > free else "warning" if needed > 0.8 * free else "ok"
    told = f"{gigabytes(needed)} will be written and {gigabytes(free)} are free"
    yield level, f"{told} in {folder}."


def check_gpu(forecast: Forecast) -> Told:
    """The leanest training step of every shape fits the GPU's memory."""
    runtime, here = forecast.config.runtime, torch.cuda.is_available()
    if runtime.device == "cpu":
        yield "ok", "runtime.device is cpu; none is needed."
    elif here:
        count = torch.cuda.device_count()
        if count < runtime.gpus:
            yield "failed", f"runtime.gpus is {runtime.gpus}, and there are {count}."
        total = torch.cuda.get_device_properties(0).total_memory
        yield memory_finding(forecast, total, torch.cuda.get_device_name())
    elif runtime.device == "cuda":
        yield "failed", "runtime.device is cuda, and PyTorch sees no GPU here."
    elif forecast.models.llm.layer_parameters > 1e9:
        told = (
            "on the CPU this study would take weeks (a login node may have none where its jobs do)"
        )
        yield "warning", f"PyTorch sees no GPU here; {told}."
    else:
        yield "ok", "none here; the models are small enough for the CPU."


def memory_finding(forecast: Forecast, total: float, name: str) -> tuple[Level, str]:
    """Whether every shape can be trained within ``total`` bytes of GPU ``name``.

    The figures are those of the plan that each training will make: one clip a pass, as many layers
    kept as configured, its margin, and the optimizer.
    """
    asked = forecast.config.runtime.memory_gb
    limit = min(total - OVERHEAD_BYTES, math.inf if asked is None else asked * GIB)
    least = {shape: forecast.training_bytes(shape) for shape in forecast.workload.steps}
    shape, most = max(least.items(), key=lambda item: item[1])
    told = (
        f"stage {shape.stage} of {forecast.workload.connectors[shape.connector]} needs at least "
        f"{most / GIB:.1f} GiB for its tensors (estimated); {limit / GIB:.1f} can be had on {name}."
    )
    return "failed" if most > limit else "ok", told


def check_report(forecast: Forecast) -> Told:
    """The output folder, where the report goes, can be written."""
    report = forecast.study.paths.report
    nearest = report.parent.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if report.is_dir():
        yield "failed", f"{report} is a folder; expected a file or nothing."
    elif not nearest.is_dir():
        yield "failed", f"{nearest} is no folder; expected output_dir to be one."
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield "failed", f"{nearest} cannot be written; expected a folder of yours."
    else:
        yield "ok", f"{report} can be written."


#: What is checked, in this order; all of it, whatever fails.
CHECKS: dict[str, Callable[[Forecast], Told]] = {
    "config": check_config,
    "vision": check_vision,
    "llm": check_llm,
    "tokenizer": check_tokenizer,
    "scorer": check_scorer_model,
    "bertscore": check_bertscore,
    "projectors": check_projectors,
    "data": check_data,
    "disk": check_disk,
    "gpu": check_gpu,
    "report": check_report,
}
