"""Is there room: on disk, on the GPU, and for the report?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from siglip_study.planning.findings import Finding, Premises
from siglip_study.planning.rows import GIB
from siglip_study.planning.table import gigabytes


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
    from siglip_study.planning.disk import disk_needed

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
