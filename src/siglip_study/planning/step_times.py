"""Seconds of each projector's optimizer steps, as ``rehearsal.json`` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.config.loading import Config
from siglip_study.planning.costs import Key
from siglip_study.planning.rows import Cost
from siglip_study.planning.workload import StageShape, Workload, connector_of

SCHEMA = "rehearsal/2"
STAGES = (1, 2)
_ABSENT = "absent"


@dataclass(frozen=True)
class StepTimes:
    """What a rehearsal says of optimizer steps.

    Args:
        told: device and way of the rehearsal, in words.
        train_clips: clips of the training split.
        seconds: label → seconds a step of stage 1 and of stage 2.
    """

    told: str
    train_clips: int
    seconds: Mapping[str, tuple[float, float]]


def step_times_json(
    workload: Workload, estimated: Mapping[Key, Cost], measured: Mapping[Key, Cost]
) -> dict[str, Any]:
    """Training clips, settings that steps depend on, and each compared projector's steps."""
    connectors = {cell.label: connector_of(cell.run) for cell in workload.study.tuning}
    config = workload.config
    steps: dict[str, list[dict[str, Any]]] = {}
    for label, connector in connectors.items():
        steps[label] = []
        for stage, settings in zip(STAGES, (config.stage1, config.stage2), strict=True):
            key = Key(
                "step",
                StageShape(stage, connector, settings.batch_size, settings.gradient_accumulation),
            )
            cost = measured.get(key) or estimated.get(key) or Cost(None)
            steps[label].append({"seconds": cost.seconds, "problem": cost.problem})
    return {
        "train_clips": workload.dataset.clips["train"],
        "settings": timed_settings(config),
        "steps": steps,
    }


def read_step_times(path: Path, config: Config) -> StepTimes:
    """Step times of a rehearsal of ``config``; budgets may differ, what a step costs may not.

    Raises:
        StudyError: the file is no rehearsal, is one of another config, or a step did not fit.
    """
    return step_times(read_json(path, SCHEMA), config, str(path))


def step_times(rehearsal: Mapping[str, Any], config: Config, source: str) -> StepTimes:
    """The same from the file's content; ``source`` names it in errors."""
    record = rehearsal["training"]
    for key, expected in timed_settings(config).items():
        found = record["settings"].get(key, _ABSENT)
        if found != expected:
            told = _ABSENT if found is _ABSENT else repr(found)
            raise StudyError(
                f"{source}: rehearsed with {key} {told}; expected {expected!r}, as in the config."
            )
    seconds = {label: _both(record["steps"][label], label, source) for label in config.projectors}
    return StepTimes(
        f"{rehearsal['device']}: {rehearsal['how']}", int(record["train_clips"]), seconds
    )


def timed_settings(config: Config) -> dict[str, Any]:
    """The keys on which the time of an optimizer step depends, by dotted name."""
    runtime = config.runtime
    found: dict[str, Any] = {
        "vision.model": config.vision.model,
        "vision.frames": config.vision.frames,
        "llm.model": config.llm.model,
        "llm.quantization": config.llm.quantization,
        "llm.lora.r": config.llm.lora.r,
        "llm.lora.targets": list(config.llm.lora.targets),
        "training.max_target_tokens": config.training.max_target_tokens,
        "runtime.device": runtime.device,
        "runtime.memory_gb": runtime.memory_gb,
        "runtime.checkpointing": runtime.checkpointing,
        "runtime.compile": runtime.compile,
    }
    for name, stage in (("stage1", config.stage1), ("stage2", config.stage2)):
        found[f"{name}.batch_size"] = stage.batch_size
        found[f"{name}.gradient_accumulation"] = stage.gradient_accumulation
    for label, projector in config.projectors.items():
        found[f"projectors.{label}.type"] = projector.type or label
        found[f"projectors.{label}.options"] = projector.options
    return found


def _both(steps: list[dict[str, Any]], label: str, source: str) -> tuple[float, float]:
    for stage, step in zip(STAGES, steps, strict=True):
        if step["problem"] is not None or not step["seconds"]:
            why = step["problem"] or "no time was taken"
            raise StudyError(
                f"{source}: stage {stage} of {label} has no step time ({why}); expected a device "
                "on which every projector can be trained."
            )
    first, second = (float(step["seconds"]) for step in steps)
    return first, second
