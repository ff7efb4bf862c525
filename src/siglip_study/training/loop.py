"""The training loop of one stage, in optimizer steps."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from siglip_study.config import EarlyStopping, StageConfig
from siglip_study.errors import StudyError
from siglip_study.training.clips import Clips, epoch_order
from siglip_study.training.optimizer import make_optimizer, parameter_groups, set_rates
from siglip_study.training.resume import Position, ResumePoint
from siglip_study.training.schedule import derived_seed, lr_factor
from siglip_study.vlm import VisionLanguageModel

log = logging.getLogger(__name__)

# Captions a handful of selection clips; returns columns for epochs.parquet.
QuickLook = Callable[[VisionLanguageModel], dict[str, Any]]


@dataclass(frozen=True)
class StagePlan:
    """What a stage does, apart from the model: its number, settings, seed and pace of saving."""

    number: int
    settings: StageConfig
    seed: int
    eval_batch: int
    save_seconds: float

    def steps_per_epoch(self, clips: int) -> int:
        """Optimizer steps that see every clip once; the last one may be smaller."""
        return math.ceil(clips / self.clips_per_step)

    @property
    def clips_per_step(self) -> int:
        return self.settings.batch_size * self.settings.gradient_accumulation

    def total_steps(self, clips: int) -> int:
        return self.settings.epochs * self.steps_per_epoch(clips)


def train_stage(
    model: VisionLanguageModel,
    plan: StagePlan,
    train: Clips,
    selection: Clips,
    resume: ResumePoint,
    quick_look: QuickLook,
    accelerator: Accelerator,
    on_epoch: Callable[[dict[str, Any]], None],
) -> Position:
    """Train what is trainable in ``model``; leave it with the weights the stage keeps.

    A stage killed at any instant and started again from ``resume`` ends, on the CPU, with the same
    bits as one left alone: data order, dropout and initialisation come from seeds derived per step.

    Returns:
        The stage's history and the epoch whose weights were kept.
    """
    trainable = model.trainable()
    buffers = {"feature_scale": model.feature_scale, "output_scale": model.output_scale}
    no_decay = {f"projector.{name}" for name in model.projector.no_decay_parameters()}
    groups = parameter_groups(trainable, no_decay, plan.settings)
    optimizer = make_optimizer(groups, accelerator.device)

    position, best = resume.load(trainable, buffers, optimizer)
    # Sums in another number of threads round differently; a resumed run keeps the first one's.
    torch.set_num_threads(position.threads)
    if position.step:
        log.info("stage %d continues at optimizer step %d", plan.number, position.step)

    total = plan.total_steps(len(train))
    per_epoch = plan.steps_per_epoch(len(train))
    run = _Running(time.monotonic() - position.seconds)
    pending: list[tuple[dict[str, Any], Tensor, Tensor]] = []
    while position.step < total and not position.stopped:
        epoch, in_epoch = divmod(position.step, per_epoch)
        factor = lr_factor(
            position.step, total, plan.settings.warmup_ratio, plan.settings.min_lr_ratio
        )
        rates = set_rates(optimizer, factor)
        torch.manual_seed(derived_seed("step", plan.seed, plan.number, position.step))
        loss, norm, row = _optimizer_step(
            model, plan, train, epoch, in_epoch, optimizer, trainable, accelerator
        )
        row |= {"stage": plan.number, "step": position.step + 1, "epoch": epoch + 1}
        row |= {"lr_projector": rates["projector"], "lr_lora": rates["lora"]}
        row["seconds"] = run.elapsed()
        pending.append((row, loss, norm))
        position.step += 1
        epoch_ends = in_epoch + 1 == per_epoch
        if not epoch_ends and not run.save_is_due(plan.save_seconds):
            continue
        position.steps += _settle(pending, plan)
        pending.clear()
        if epoch_ends:
            best = _end_epoch(model, plan, selection, position, best, quick_look, accelerator)
            position.epochs[-1]["seconds"] = run.elapsed()
            on_epoch(position.epochs[-1])
        position.seconds = run.elapsed()
        resume.save(position, trainable, buffers, optimizer, best)
        run.saved()

    if plan.settings.keep == "val_loss" and best:
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(best[name])
    return position


class _Running:
    """Clock of the stage, over all its lives."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.last_save = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def save_is_due(self, seconds: float) -> bool:
        return time.monotonic() - self.last_save >= seconds

    def saved(self) -> None:
        self.last_save = time.monotonic()


def _optimizer_step(
    model: VisionLanguageModel,
    plan: StagePlan,
    train: Clips,
    epoch: int,
    in_epoch: int,
    optimizer: torch.optim.Optimizer,
    trainable: dict[str, torch.nn.Parameter],
    accelerator: Accelerator,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """One step over ``gradient_accumulation`` forward passes, normalised by its target tokens."""
    model.train()
    order = epoch_order(len(train), plan.seed, plan.number, epoch)
    chosen = order[in_epoch * plan.clips_per_step : (in_epoch + 1) * plan.clips_per_step]
    captions = {i: train.caption(i, epoch, plan.seed) for i in chosen}
    # Every token weighs the same, however the clips fall into forward passes.
    tokens = sum(len(caption) for caption in captions.values())
    total = torch.zeros((), device=accelerator.device)
    for micro in _chunks(chosen, plan.settings.batch_size):
        features = train.features.batch([train.ids[i] for i in micro]).to(accelerator.device)
        with accelerator.autocast():
            losses, _ = model.caption_loss(features, [captions[i] for i in micro])
        loss = losses.sum() / tokens
        accelerator.backward(loss)
        total += loss.detach()
    norm = accelerator.clip_grad_norm_(trainable.values(), plan.settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, norm, {"target_tokens": tokens, "samples": len(chosen)}


def _settle(pending: list[tuple[dict[str, Any], Tensor, Tensor]], plan: StagePlan) -> list[dict]:
    """Read losses off the device once an epoch, not once a step: reading one waits for the GPU."""
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    rows = []
    for row, loss, norm in pending:
        row |= {"loss": float(loss), "grad_norm": float(norm), "gpu_gb": memory}
        for what in ("loss", "grad_norm"):
            _require_finite(row[what], f"{what} of step {row['step']}", plan)
        rows.append(row)
    return rows


def _require_finite(value: float, what: str, plan: StagePlan) -> None:
    if not math.isfinite(value):
        stage = f"stage{plan.number}"
        raise StudyError(
            f"{stage}: {what} is {value}; expected a finite number: "
            f"lower {stage}.learning_rate or {stage}.max_grad_norm."
        )


@torch.no_grad()
def caption_losses(
    model: VisionLanguageModel,
    features: Callable[[list[int]], Tensor],
    captions: list[tuple[int, ...]],
    batch: int,
    accelerator: Accelerator,
) -> tuple[list[float], list[int]]:
    """Summed loss (nats) and target tokens of each caption; ``features`` gives a batch."""
    model.eval()
    sums: list[float] = []
    for rows in _chunks(list(range(len(captions))), batch):
        with accelerator.autocast():
            losses, _ = model.caption_loss(
                features(rows).to(accelerator.device), [captions[i] for i in rows]
            )
        sums += [float(value) for value in losses.cpu()]
    return sums, [len(caption) for caption in captions]


def _end_epoch(
    model: VisionLanguageModel,
    plan: StagePlan,
    selection: Clips,
    position: Position,
    best: dict[str, Tensor],
    quick_look: QuickLook,
    accelerator: Accelerator,
) -> dict[str, Tensor]:
    """Validate, watch for collapse, and remember the weights if they are the best so far."""
    sums, lengths = caption_losses(
        model,
        lambda rows: selection.features.batch([selection.ids[i] for i in rows]),
        [selection.captions[i][0] for i in range(len(selection))],
        plan.eval_batch,
        accelerator,
    )
    val_loss = sum(sums) / sum(lengths)
    epoch = len(position.epochs) + 1
    _require_finite(val_loss, f"validation loss of epoch {epoch}", plan)
    in_epoch = [row for row in position.steps if row["epoch"] == epoch]
    tokens = sum(row["target_tokens"] for row in in_epoch)
    is_best = position.best_val_loss is None or val_loss < position.best_val_loss
    _watch(position, val_loss, plan.settings.early_stopping)
    if is_best:
        position.best_val_loss, position.best_epoch = val_loss, epoch
        best = {name: p.detach().clone() for name, p in model.trainable().items()}
    position.epochs.append(
        {
            "stage": plan.number,
            "epoch": epoch,
            "step": position.step,
            "train_loss": sum(row["loss"] * row["target_tokens"] for row in in_epoch) / tokens,
            "val_loss": val_loss,
            "is_best": is_best,
            **quick_look(model),
        }
    )
    return best


def _watch(position: Position, val_loss: float, stopping: EarlyStopping | None) -> None:
    """Count epochs since the loss last fell by ``min_delta`` below the last fall that counted.

    Measured from there and not from the best loss, so that small falls add up.
    """
    if stopping is None:
        return
    if position.gain_from is None or val_loss < position.gain_from - stopping.min_delta:
        position.gain_from, position.epochs_without_gain = val_loss, 0
    else:
        position.epochs_without_gain += 1
    position.stopped = position.epochs_without_gain >= stopping.patience


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
