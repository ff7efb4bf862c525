"""Epochs that give every projector the GPU time of one of them, each with its own schedule.

Run with:

    python -m siglip_study.planning.equal_time config/study.yaml --reference linear \\
        --out config/equal_time.yaml
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path, read_json
from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.config.axes import EPOCHS, RATE
from siglip_study.config.study import Config
from siglip_study.planning.rehearse import (
    REHEARSAL_SCHEMA,
    add_assumptions,
    rehearse_and_write,
    timed_settings,
)
from siglip_study.study import Study

# ---- What a rehearsal says of optimizer steps.


@dataclass(frozen=True)
class StepTimes:
    """Step times of every projector, and what a rehearsal says of itself in words."""

    told: str
    train_clips: int
    #: label → seconds a step of stage 1 and of stage 2
    seconds: Mapping[str, tuple[float, float]]


def step_times(rehearsal: Mapping[str, Any], config: Config, source: str) -> StepTimes:
    """Step times from the content of a ``rehearsal.json``, which ``source`` names in errors.

    Budgets may differ from the config's, what a step costs may not.

    Raises:
        StudyError: it is one of another config, or a step did not fit.
    """
    record = rehearsal["training"]
    for key, expected in timed_settings(config).items():
        known = key in record["settings"]
        if not known or record["settings"][key] != expected:
            found = repr(record["settings"][key]) if known else "absent"
            raise StudyError(
                f"{source}: rehearsed with {key} {found}; expected {expected!r}, as in the config."
            )
    seconds = {}
    for label in config.projectors:
        for stage, step in enumerate(record["steps"][label], start=1):
            if step["problem"] is not None or not step["seconds"]:
                why = step["problem"] or "no time was taken"
                raise StudyError(
                    f"{source}: stage {stage} of {label} has no step time ({why}); expected a "
                    "device on which every projector can be trained."
                )
        first, second = (float(step["seconds"]) for step in record["steps"][label])
        seconds[label] = (first, second)
    told = f"{rehearsal['device']}: {rehearsal['how']}"
    return StepTimes(told, int(record["train_clips"]), seconds)


# ---- Budgets: arithmetic on those times.


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


def equal_budgets(config: Config, times: StepTimes, reference: str) -> list[Budget]:
    """For each budget of the reference, every projector's epochs that come nearest to its time.

    With ``s₁`` and ``s₂`` the seconds of a projector's steps, ``n₁`` and ``n₂`` the steps of an
    epoch, ``e₁`` the epochs of stage 1, which all share, and ``T = e₁ n₁ s₁ + E n₂ s₂`` of the
    reference: the whole number nearest to ``(T - e₁ n₁ s₁) / (n₂ s₂)``.

    Raises:
        StudyError: a run may stop early, or the time of the reference is too short for an epoch of
            another.
    """
    for name, stage in (("stage1", config.stage1), ("stage2", config.stage2)):
        if stage.early_stopping is not None:
            raise StudyError(
                f"{name}.early_stopping is set; expected null, since a run that stops early does "
                "not use its time."
            )
    n1, n2 = (
        math.ceil(times.train_clips / (stage.batch_size * stage.gradient_accumulation))
        for stage in (config.stage1, config.stage2)
    )

    def seconds(label: str, epochs: int) -> float:
        """GPU-seconds of a training: the steps of both stages."""
        s1, s2 = times.seconds[label]
        return config.stage1.epochs * s1 * n1 + epochs * s2 * n2

    found = []
    for label in config.projectors:
        mine: dict[int, int] = {}
        for budget in config.projectors[reference].epochs or config.grid.epochs:
            target, an_epoch = seconds(reference, budget), times.seconds[label][1] * n2
            epochs = math.floor((target - seconds(label, 0)) / an_epoch + 0.5)
            if epochs < 1:
                slowest = max(times.seconds, key=lambda other: seconds(other, 1))
                raise StudyError(
                    f"--reference {reference}: both stages take {target:.3g} GPU-seconds (epochs "
                    f"in stage 2: {budget}), and those of {label} at least {seconds(label, 1):.3g};"
                    f" expected a slower reference, such as {slowest}, or more epochs."
                )
            if epochs in mine:
                raise StudyError(
                    f"--reference {reference}: its budgets of {mine[epochs]} and {budget} epochs "
                    f"both come to {epochs} of {label}; expected budgets further apart."
                )
            mine[epochs] = budget
            hours = seconds(label, epochs) / 3600
            found.append(Budget(label, times.seconds[label], epochs, hours, target / 3600))
    return found


# ---- The command: a table, and the overlay that Snakemake merges into the config.


def summary(budgets: Sequence[Budget], times: StepTimes, reference: str) -> list[str]:
    """Lines for the terminal and for the head of the overlay."""
    widest = max(budgets, key=lambda budget: abs(budget.deviation))
    width = max(9, *(len(budget.projector) for budget in budgets))
    return [
        f"Every projector takes the GPU time of {reference}: the optimizer steps of both stages.",
        f"Step times: {times.told}.",
        "",
        f"{'projector':{width}}  stage 1 s/step  stage 2 s/step  epochs  GPU-hours  off target",
        *(
            f"{b.projector:{width}}  {b.step_s[0]:14.3g}  {b.step_s[1]:14.3g}  {b.epochs:6d}  "
            f"{b.hours:9.3g}  {100 * b.deviation:+8.1f} %"
            for b in budgets
        ),
        "",
        "Epochs are those of stage 2, GPU-hours those of one training. Since epochs are whole",
        f"numbers, deviations reach {100 * widest.deviation:+.1f} % ({widest.projector}).",
    ]


def overlay(config: Config, budgets: Sequence[Budget]) -> str:
    """YAML that Snakemake merges into the config: each projector's epochs, and a place of its own.

    The place differs, since both studies would write the same tables and the same report.
    """
    epochs: dict[str, dict[str, list[int]]] = {}
    for budget in budgets:
        epochs.setdefault(budget.projector, {"epochs": []})["epochs"].append(budget.epochs)
    keys = {"output_dir": f"{config.output_dir.rstrip('/')}_equal_time", "projectors": epochs}
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, default_flow_style=None)


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write the overlay; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m siglip_study.planning.equal_time",
        description="Epochs that give every projector the GPU time of a reference.",
    )
    parser.add_argument("--reference", required=True, help="label in projectors")
    parser.add_argument(
        "--rehearsal",
        type=Path,
        help="a rehearsal.json; default: rehearse now, with the options below",
    )
    parser.add_argument("--out", type=Path, help="overlay to write; default: the table alone")
    add_assumptions(parser)
    given = parser.parse_args(arguments)
    return exit_status(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    config, reference = load(given.config), given.reference
    others = [key for key in Study(config).varied if key not in (RATE, EPOCHS)]
    if others:
        raise StudyError(
            f"{given.config}: grid has {others[0]} as an axis; expected learning_rate and epochs "
            "alone, since a projector's budget belongs to one time a step."
        )
    if reference not in config.projectors:
        listed = ", ".join(config.projectors)
        raise StudyError(f"--reference is '{reference}'; expected one of projectors: {listed}.")
    if given.rehearsal is not None:
        record, source = read_json(given.rehearsal, REHEARSAL_SCHEMA), str(given.rehearsal)
    else:
        record, source = rehearse_and_write(config, given).as_json(), "the rehearsal"
    times = step_times(record, config, source)
    budgets = equal_budgets(config, times, reference)
    lines = summary(budgets, times, reference)
    print("\n".join(lines))
    if given.out is not None:
        files = f"{given.config} {given.out}"
        lines += ["", f"    snakemake --cores all --resources gpu=1 --configfile {files}"]
        comments = "".join(f"# {line}".rstrip() + "\n" for line in lines)
        with atomic_path(given.out) as partial:
            partial.write_text(comments + overlay(config, budgets), encoding="utf-8")
        print(f"Written: {given.out}")


if __name__ == "__main__":
    raise SystemExit(main())
