"""What a stage does step by step, apart from the model: a function of settings and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_study.config.training import StageConfig
from siglip_study.runs.clips import Clips, epoch_order
from siglip_study.training.schedule import derived_seed
from siglip_study.training.step import forward_passes, share_of

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class StagePlan:
    """What a stage does, apart from the model: its number, settings, seed and pace of saving.

    ``forward_clips`` bounds a forward pass below the settings' batch size where memory demands it;
    the steps stay the same.
    """

    number: int
    settings: StageConfig
    seed: int
    eval_batch: int
    save_seconds: float
    forward_clips: int | None = None

    def steps_per_epoch(self, clips: int) -> int:
        """Optimizer steps that see every clip once; the last one may be smaller."""
        return math.ceil(clips / self.clips_per_step)

    @property
    def clips_per_step(self) -> int:
        return self.settings.batch_size * self.settings.gradient_accumulation

    @property
    def clips_per_forward(self) -> int:
        return min(self.settings.batch_size, self.forward_clips or self.settings.batch_size)

    def total_steps(self, clips: int) -> int:
        return self.settings.epochs * self.steps_per_epoch(clips)


@dataclass(frozen=True)
class StepShare:
    """What one rank does of a step: its forward passes, and the size of the whole step."""

    passes: list[list[int]]
    captions: dict[int, tuple[int, ...]]
    tokens: int
    samples: int
    weight: float


def step_share(plan: StagePlan, train: Clips, step: int, accelerator: Accelerator) -> StepShare:
    """The share of this rank in a stage's step, counted from 0."""
    epoch, in_epoch = divmod(step, plan.steps_per_epoch(len(train)))
    order = epoch_order(len(train), plan.seed, plan.number, epoch)
    chosen = order[in_epoch * plan.clips_per_step : (in_epoch + 1) * plan.clips_per_step]
    captions = {i: train.caption(i, epoch, plan.seed) for i in chosen}
    own, weight = chosen, 1.0
    if accelerator.num_processes > 1:
        lengths = [len(captions[i]) for i in chosen]
        dealt = share_of(lengths, accelerator.process_index, accelerator.num_processes)
        # More ranks than clips: see optimizer_step's weight.
        own, weight = ([chosen[i] for i in dealt], 1.0) if dealt else (chosen[:1], 0.0)
    passes = forward_passes([len(captions[i]) for i in own], plan.clips_per_forward)
    # Every token weighs the same, however the clips fall into forward passes and ranks.
    tokens = sum(len(caption) for caption in captions.values())
    return StepShare(
        [[own[i] for i in rows] for rows in passes], captions, tokens, len(chosen), weight
    )


def dropout_seed(plan: StagePlan, step: int, accelerator: Accelerator) -> int:
    """Ranks see different clips, and drop different activations of them."""
    rank = (accelerator.process_index,) if accelerator.num_processes > 1 else ()
    return derived_seed("step", plan.seed, plan.number, step, *rank)
