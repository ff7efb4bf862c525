"""Does a rehearsed step take as long as one of the real trainer? Both are timed here.

Run with:

    python -m benchmarks.rehearsed_step config/study.yaml --projector linear --stage 2
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.config.study import Config
from siglip_study.planning.estimate import Forecast
from siglip_study.planning.measure import Trial, measured
from siglip_study.planning.workload import StageShape
from siglip_study.runs.clips import Clips
from siglip_study.training.loop import train_stage
from siglip_study.training.resume import ResumePoint
from siglip_study.training.step import StagePlan


@dataclass(frozen=True)
class _Pool:
    """Features of any clip: one of a few that are there."""

    features: Tensor

    def batch(self, ids: Sequence[str]) -> Tensor:
        return self.features[[int(i) % len(self.features) for i in ids]]


def rehearsed_and_trained(
    config: Config, label: str, stage: int, steps: int
) -> tuple[float | None, float]:
    """Seconds an optimizer step of this projector: as rehearsed, and of ``train_stage``.

    The trainer takes ``steps`` more steps in its second run than in its first, over clips whose
    caption lengths follow the dataset's: the difference leaves validation and saving out.
    """
    forecast = Forecast(config)
    trial = Trial(forecast)
    if stage == 2:
        trial.add_adapters()
    work = forecast.workload
    shape = next(
        s for s in work.steps if s.stage == stage and work.connectors[s.connector] == label
    )
    rehearsed = measured(trial.device, lambda: trial.step(shape)).seconds
    _train(trial, shape, 1)
    few = _train(trial, shape, 2)
    return rehearsed, (_train(trial, shape, 2 + steps) - few) / steps


def _train(trial: Trial, shape: StageShape, steps: int) -> float:
    """Wall time of a stage of so many steps."""
    config = trial.config
    model = trial.model(shape.connector)
    settings = (config.stage1 if shape.stage == 1 else config.stage2).model_copy(
        update={"epochs": 1, "batch_size": shape.batch, "gradient_accumulation": shape.accumulation}
    )
    memory = trial.plans[shape.stage, shape.connector]
    plan = StagePlan(shape.stage, settings, 0, 1e9, memory)
    lengths = random.Random(steps)
    pool = _Pool(trial.features(max(2, shape.batch)))

    def clips(n: int) -> Clips:
        captions = [(trial.caption(lengths.choice(trial.dataset.lengths)),) for _ in range(n)]
        return Clips(tuple(str(i) for i in range(n)), pool, tuple(captions), 0)

    train, held = clips(steps * plan.clips_per_step), clips(1)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        train_stage(
            model,
            plan,
            train,
            held,
            ResumePoint(Path(folder) / "resume"),
            trial.accelerator,
            lambda _: {"quick_n": 0},
        )
        return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> int:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsed_step")
    parser.add_argument("config", type=Path)
    parser.add_argument("--projector", default="linear", help="label in projectors")
    parser.add_argument("--stage", type=int, choices=(1, 2), default=2)
    parser.add_argument("--steps", type=int, default=4, help="steps of the real trainer")
    given = parser.parse_args(arguments)
    return exit_status(lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    config = load(given.config)
    rehearsed, trained = rehearsed_and_trained(config, given.projector, given.stage, given.steps)
    if rehearsed is None:
        print(f"stage {given.stage} of {given.projector} does not fit.")
        return 1
    print(
        f"stage {given.stage} of {given.projector}: rehearsed {rehearsed:.3f} s a step, "
        f"trained {trained:.3f} s: {100 * (rehearsed / trained - 1):+.1f} %"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
