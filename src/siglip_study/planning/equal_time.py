"""Epochs that give every projector the GPU time of one of them, each with its own schedule.

Run with:

    python -m siglip_study.planning.equal_time config/study.yaml --reference linear \\
        --out config/equal_time.yaml
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from siglip_study.base.io import atomic_path
from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.config.study import Config
from siglip_study.planning.budgets import (
    Budget,
    StepTimes,
    equal_budgets,
    read_step_times,
    require_reference,
    step_times,
)
from siglip_study.planning.rehearse import add_assumptions, given_assumptions, show_progress


def budget_table(budgets: Sequence[Budget]) -> list[str]:
    """Lines for the terminal and for the head of the overlay."""
    width = max(9, *(len(budget.projector) for budget in budgets))
    lines = [
        f"{'projector':{width}}  stage 1 s/step  stage 2 s/step  epochs  GPU-hours  off target"
    ]
    lines += [
        f"{b.projector:{width}}  {b.step_s[0]:14.3g}  {b.step_s[1]:14.3g}  {b.epochs:6d}  "
        f"{b.hours:9.3g}  {100 * b.deviation:+8.1f} %"
        for b in budgets
    ]
    return lines


def summary(budgets: Sequence[Budget], times: StepTimes, reference: str) -> list[str]:
    """The table, with what it rests on before it and how far off it is behind it."""
    widest = max(budgets, key=lambda budget: abs(budget.deviation))
    return [
        f"Every projector takes the GPU time of {reference}: the optimizer steps of both stages.",
        f"Step times: {times.told}.",
        "",
        *budget_table(budgets),
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
    parser.add_argument("config", type=Path)
    parser.add_argument("--reference", required=True, help="label in projectors")
    parser.add_argument(
        "--rehearsal",
        type=Path,
        help="a rehearsal.json; default: rehearse now, with the options below",
    )
    parser.add_argument("--out", type=Path, help="overlay to write; default: the table alone")
    add_assumptions(parser)
    given = parser.parse_args(arguments)
    show_progress()
    return exit_status(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    config = load(given.config)
    require_reference(config, given.reference)
    if given.rehearsal is not None:
        times = read_step_times(given.rehearsal, config)
    else:
        from siglip_study.planning.rehearse import rehearse

        rehearsed = rehearse(config, given_assumptions(given))
        rehearsed.write(Path(config.output_dir))
        times = step_times(rehearsed.as_json(), config, "the rehearsal")
    budgets = equal_budgets(config, times, given.reference)
    lines = summary(budgets, times, given.reference)
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
