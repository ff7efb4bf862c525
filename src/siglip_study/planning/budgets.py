"""Stage-2 budgets of equal GPU time: arithmetic on rehearsed step times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.config.study import Config
from siglip_study.planning.costs import Key
from siglip_study.planning.rows import Cost
from siglip_study.planning.workload import StageShape, Workload, connector_of

# ---- Seconds of each projector's optimizer steps, as ``rehearsal.json`` keeps them.

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


@dataclass(frozen=True)
class Budget:
    """A stage-2 budget of one projector that stands for a budget of the reference.

    ``step_s`` are seconds a step of stage 1 and of stage 2, ``hours`` the GPU-hours of one training
    (the steps of both stages) and ``target`` those of the reference.
    """

    projector: str
    step_s: tuple[float, float]
    epochs: int
    hours: float
    target: float

    @property
    def deviation(self) -> float:
        """Share of the target that is too much (or, negative, too little)."""
        return self.hours / self.target - 1


def require_reference(config: Config, label: str) -> None:
    """Raises StudyError unless ``label`` is a projector of the config."""
    if label not in config.projectors:
        known = ", ".join(config.projectors)
        raise StudyError(f"--reference is '{label}'; expected one of projectors: {known}.")


def equal_budgets(config: Config, times: StepTimes, reference: str) -> list[Budget]:
    """For each budget of the reference, every projector's epochs that come nearest to its time.

    With ``s₁`` and ``s₂`` the seconds of a projector's steps, ``n₁`` and ``n₂`` the steps of an
    epoch, ``e₁`` the epochs of stage 1, which all share, and ``T = e₁ n₁ s₁ + E n₂ s₂`` of the
    reference: the whole number nearest to ``(T - e₁ n₁ s₁) / (n₂ s₂)``.

    Raises:
        StudyError: the reference is no projector of the config, a run may stop early, or the time
            of the reference is too short for an epoch of another.
    """
    require_reference(config, reference)
    for name, stage in (("stage1", config.stage1), ("stage2", config.stage2)):
        if stage.early_stopping is not None:
            raise StudyError(
                f"{name}.early_stopping is set; expected null, since a run that stops early does "
                "not use its time."
            )
    found = []
    for label in config.projectors:
        mine: dict[int, int] = {}
        for budget in config.projectors[reference].epochs or config.grid.epochs:
            target = _seconds(config, times, reference, budget)
            epochs = _nearest(config, times, label, target)
            if epochs < 1:
                one = _seconds(config, times, label, 1)
                raise StudyError(
                    f"--reference {reference}: both stages take {target:.3g} GPU-seconds (epochs "
                    f"in stage 2: {budget}), and those of {label} at least {one:.3g}; expected a "
                    f"slower reference, such as {_slowest(config, times)}, or more epochs."
                )
            if epochs in mine:
                raise StudyError(
                    f"--reference {reference}: its budgets of {mine[epochs]} and {budget} epochs "
                    f"both come to {epochs} of {label}; expected budgets further apart."
                )
            mine[epochs] = budget
            spent = _seconds(config, times, label, epochs)
            found.append(Budget(label, times.seconds[label], epochs, spent / 3600, target / 3600))
    return found


def _slowest(config: Config, times: StepTimes) -> str:
    """As a reference it leaves an epoch to everyone."""
    return max(times.seconds, key=lambda label: _seconds(config, times, label, 1))


def _seconds(config: Config, times: StepTimes, label: str, epochs: int) -> float:
    """GPU-seconds of a training: the steps of both stages."""
    first, second = times.seconds[label]
    seconds = config.stage1.epochs * first * _steps(config, times, 1)
    return seconds + epochs * second * _steps(config, times, 2)


def _nearest(config: Config, times: StepTimes, label: str, target: float) -> int:
    an_epoch = times.seconds[label][1] * _steps(config, times, 2)
    return math.floor((target - _seconds(config, times, label, 0)) / an_epoch + 0.5)


def _steps(config: Config, times: StepTimes, stage: int) -> int:
    """Optimizer steps of an epoch."""
    settings = config.stage1 if stage == 1 else config.stage2
    return math.ceil(times.train_clips / (settings.batch_size * settings.gradient_accumulation))
