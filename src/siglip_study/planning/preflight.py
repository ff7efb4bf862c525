"""Checks in seconds, before any GPU time: config, models, data, disk, GPU, report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.config.study import Config
from siglip_study.data.layouts import scan_split
from siglip_study.data.layouts.base import Scan
from siglip_study.planning.findings import Check, Finding, Premises, run_checks
from siglip_study.planning.model_checks import (
    check_bertscore,
    check_llm,
    check_projectors,
    check_scorer,
    check_tokenizer,
    check_vision,
)
from siglip_study.planning.rows import GIB, gigabytes

# ---- Is the dataset there, does it have what the config names, and can its clips be read?

#: Clips of a split below which its intervals say little.
_FEW_CLIPS = 20


def check_data(premises: Premises) -> Iterator[Finding]:
    """Folder, splits, labels; one clip of each split is decoded."""
    config, root = premises.config, premises.data_root
    if not root.is_dir():
        if config.demo is not None and config.data.root is None:
            yield Finding("ok", "data", f"the demo's clips will be made in {root}.")
        else:
            yield Finding("failed", "data", f"data.root is {root}, and there is no such folder.")
        return
    for split, folder in config.data.splits.items():
        try:
            scan = scan_split(config.data, root, folder)
        except StudyError as error:
            yield Finding("failed", "data", str(error))
            continue
        yield from _split(config, root, split, folder, scan)


def _split(config: Config, root: Path, split: str, folder: str, scan: Scan) -> Iterator[Finding]:
    if not scan.clips:
        reasons = "; ".join(f"{r.path}: {r.reason}" for r in scan.rejected[:2])
        found = f" ({len(scan.rejected)} rejected: {reasons})" if scan.rejected else ""
        yield Finding(
            "failed", "data", f"{split} ({root / folder}) has no usable clip with a label{found}."
        )
        return
    count = len(scan.clips)
    if scan.rejected:
        first = scan.rejected[0]
        yield Finding(
            "warning",
            "data",
            f"{split}: {count} clips with labels, {len(scan.rejected)} rejected, the first "
            f"{first.path}: {first.reason}.",
        )
    else:
        yield Finding("ok", "data", f"{split}: {count} clips with labels.")
    if split != "train" and count < _FEW_CLIPS:
        yield Finding("warning", "data", f"{split}: {count} clips; intervals will be wide.")
    groups = {clip.group for clip in scan.clips}
    if split == "held_out" and len(groups) < 2:
        yield Finding(
            "failed", "data", f"{split}: one source video; expected two, to halve the split."
        )
    yield _decodes(config, root, split, scan)


def _decodes(config: Config, root: Path, split: str, scan: Scan) -> Finding:
    """The first clip, read as the encoder will."""
    from siglip_study.base.errors import ClipError
    from siglip_study.data.decoding import get_decoder

    clip = scan.clips[0]
    try:
        frames = get_decoder(config.data.decoder).read(root / clip.path, config.vision.frames)
    except ClipError as error:
        # One clip may be broken; the manifest rejects it by name.
        return Finding("warning", "data", f"{split}: {clip.path} cannot be decoded ({error}).")
    height, width = frames.shape[1:3]
    return Finding("ok", "data", f"{split}: {clip.path} decodes, {width}×{height} pixels.")


# ---- Is there room: on disk, on the GPU, and for the report?


def check_config(premises: Premises) -> Iterator[Finding]:
    """How much the config asks for. (That it is valid is known: it was read.)"""
    study = premises.study
    study.cells  # noqa: B018 (raises where two cells are one run)
    seeds = len(premises.config.seeds.report)
    yield Finding(
        "ok",
        "config",
        f"{len(premises.config.projectors)} projectors, {len(study.tuning)} tuning cells, "
        f"{seeds} report seeds, {len(study.controls)} runs of controls.",
    )
    if seeds < 2:
        yield Finding("warning", "config", "one report seed; without a second there are no ranks.")


def check_disk(premises: Premises) -> Iterator[Finding]:
    """Features and checkpoints fit the disk of the output folder."""
    from siglip_study.planning.forecast import disk_needed

    folder = existing_folder(Path(premises.config.output_dir))
    free = shutil.disk_usage(folder).free
    needed = disk_needed(premises.workload, premises.forecast).written
    told = f"{gigabytes(needed)} will be written and {gigabytes(free)} are free in {folder}."
    if needed > free:
        yield Finding("failed", "disk", told)
    elif needed > 0.8 * free:
        yield Finding("warning", "disk", told)
    else:
        yield Finding("ok", "disk", told)


def check_gpu(premises: Premises) -> Iterator[Finding]:
    """The leanest training step of every shape fits the GPU's memory."""
    import torch

    config, wanted = premises.config, premises.config.runtime.gpus
    if config.runtime.device == "cpu":
        yield Finding("ok", "gpu", "runtime.device is cpu; none is needed.")
        return
    if not torch.cuda.is_available():
        if config.runtime.device == "cuda":
            yield Finding("failed", "gpu", "runtime.device is cuda, and PyTorch sees no GPU here.")
        elif premises.forecast.facts.llm.layer_parameters > 1e9:
            yield Finding(
                "warning",
                "gpu",
                "PyTorch sees no GPU here; on the CPU this study would take weeks (a login node "
                "may have none where its jobs do).",
            )
        else:
            yield Finding("ok", "gpu", "none here; the models are small enough for the CPU.")
        return
    if torch.cuda.device_count() < wanted:
        yield Finding(
            "failed", "gpu", f"runtime.gpus is {wanted}, and there are {torch.cuda.device_count()}."
        )
    yield memory_finding(
        premises, torch.cuda.get_device_properties(0).total_memory, torch.cuda.get_device_name()
    )


def memory_finding(premises: Premises, total: float, name: str) -> Finding:
    """Whether every shape can be trained within ``total`` bytes of GPU ``name``.

    The figures are those of the plan that each training will make: one clip a pass, as many layers
    kept as configured, its margin, and the optimizer.
    """
    from siglip_study.planning.estimate import OVERHEAD_BYTES

    asked = premises.config.runtime.memory_gb
    limit = min(total - OVERHEAD_BYTES, float("inf") if asked is None else asked * GIB)
    least = {shape: premises.forecast.training_bytes(shape) for shape in premises.workload.steps}
    shape = max(least, key=lambda s: least[s])
    label = premises.workload.label(shape.connector)
    told = (
        f"stage {shape.stage} of {label} needs at least {least[shape] / GIB:.1f} GiB for its "
        f"tensors (estimated); {limit / GIB:.1f} can be had on {name}."
    )
    return Finding("failed" if least[shape] > limit else "ok", "gpu", told)


def check_report(premises: Premises) -> Iterator[Finding]:
    """The output folder, where the report goes, can be written."""
    report = premises.study.paths.report
    if report.is_dir():
        yield Finding("failed", "report", f"{report} is a folder; expected a file or nothing.")
        return
    nearest = report.parent.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        yield Finding("failed", "report", f"{nearest} is no folder; expected output_dir to be one.")
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding(
            "failed", "report", f"{nearest} cannot be written; expected a folder of yours."
        )
    else:
        yield Finding("ok", "report", f"{report} can be written.")


def existing_folder(path: Path) -> Path:
    """The nearest folder of a path that exists."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


#: What is checked, in this order; all of it, whatever fails.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("config", check_config),
    ("vision", check_vision),
    ("llm", check_llm),
    ("tokenizer", check_tokenizer),
    ("scorer", check_scorer),
    ("bertscore", check_bertscore),
    ("projectors", check_projectors),
    ("data", check_data),
    ("disk", check_disk),
    ("gpu", check_gpu),
    ("report", check_report),
)


def preflight(config: Config) -> list[Finding]:
    """Every finding of every check."""
    return list(run_checks(CHECKS, Premises(config)))


def verdict(findings: list[Finding]) -> tuple[bool, str]:
    """Whether the study may start, and a sentence that counts what was found."""
    counts = {level: sum(f.level == level for f in findings) for level in ("failed", "warning")}
    ready = counts["failed"] == 0
    told = f"{counts['failed']} failed, {counts['warning']} warnings, {len(findings)} findings"
    return ready, f"preflight: {'ready' if ready else 'not ready'} ({told})."
