"""Stage-2 budgets of equal GPU time: arithmetic on rehearsed step times."""

from __future__ import annotations

import math
from dataclasses import dataclass

from siglip_study.base.errors import StudyError
from siglip_study.config.loading import Config
from siglip_study.planning.step_times import StepTimes


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
