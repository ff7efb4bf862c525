"""The training loop of one stage, in optimizer steps."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from siglip_study.base.errors import StudyError
from siglip_study.config.training import EarlyStopping
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips, prefetched
from siglip_study.runs.losses import caption_losses
from siglip_study.training.diagnosis import (
    Look,
    at_start,
    gradient_norms,
    gradient_parts,
    gradient_shares,
    norm_columns,
)
from siglip_study.training.distributed import require_same_weights
from siglip_study.training.resume import Position, ResumePoint
from siglip_study.training.step import (
    StagePlan,
    dropout_seed,
    lr_factor,
    make_optimizer,
    optimizer_step,
    set_rates,
    share_of,
    step_share,
)

log = logging.getLogger(__name__)

# A row of steps.parquet; its loss, gradient norm and norms of parts, still on the device.
_Pending = tuple[dict[str, Any], Tensor]


def train_stage(
    model: VisionLanguageModel,
    plan: StagePlan,
    train: Clips,
    selection: Clips,
    resume: ResumePoint,
    quick_look: Look,
    accelerator: Accelerator,
    on_epoch: Callable[[dict[str, Any]], None],
    diagnosis: Look | None = None,
) -> Position:
    """Train what is trainable in ``model``; leave it with the weights the stage keeps.

    A stage killed at any instant and started again from ``resume`` ends, on the CPU, with the same
    bits as one left alone: data order, dropout and initialisation come from seeds derived per step.

    Every rank of a data-parallel training calls this; only rank 0 looks, reports and saves.
    ``quick_look`` captions after each epoch, ``diagnosis`` measures then and before the first step.

    Returns:
        The stage's history and the epoch whose weights were kept.
    """
    trainable = model.trainable()
    buffers = {"feature_scale": model.feature_scale, "output_scale": model.output_scale}
    optimizer = make_optimizer(model, plan.settings)
    parts = gradient_parts(trainable)
    per_epoch, total = plan.steps_per_epoch(len(train)), plan.total_steps(len(train))

    # ---- Go on where an earlier life was killed.
    # Rank 0 first: it may find that the point belongs to other data, and drop it.
    with accelerator.main_process_first():
        position, best = resume.load(trainable, buffers, optimizer)
    with torch.no_grad():
        broadcast([*trainable.values(), *buffers.values()])
    require_same_weights(trainable, position.step, accelerator)
    # Sums in another number of threads round differently; a resumed run keeps the first one's.
    torch.set_num_threads(position.threads)
    if position.step:
        log.info("stage %d continues at optimizer step %d", plan.number, position.step)
    elif diagnosis is not None and accelerator.is_main_process:
        position.at_start = at_start(diagnosis(model))
    looks = [quick_look] if diagnosis is None else [quick_look, diagnosis]

    began, saved = time.monotonic() - position.seconds, time.monotonic()

    def save() -> None:
        nonlocal saved
        resume.save(position, trainable, buffers, optimizer, best)
        saved = time.monotonic()

    # ---- Epochs: steps, then a look at what they have made.
    while position.step < total and not position.stopped:
        pending: list[_Pending] = []
        steps = _epoch_steps(model, plan, train, position, optimizer, trainable, parts, accelerator)
        with closing(steps):
            for row, measured in steps:
                row["seconds"] = time.monotonic() - began
                pending.append((row, measured))
                is_due = time.monotonic() - saved >= plan.save_seconds
                if is_due and position.step % per_epoch and accelerator.is_main_process:
                    position.steps += _settle(pending, parts, plan)
                    pending.clear()
                    position.seconds = time.monotonic() - began
                    save()
        position.steps += _settle(pending, parts, plan)
        require_same_weights(trainable, position.step, accelerator)
        best = _end_epoch(model, plan, selection, position, best, looks, accelerator)
        position.seconds = position.epochs[-1]["seconds"] = time.monotonic() - began
        if accelerator.is_main_process:
            on_epoch(position.epochs[-1])
            save()

    # ---- Keep the weights of the best epoch, or the last.
    if plan.settings.keep == "val_loss" and best:
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(best[name])
    return position


def _epoch_steps(
    model: VisionLanguageModel,
    plan: StagePlan,
    train: Clips,
    position: Position,
    optimizer: torch.optim.Optimizer,
    trainable: Mapping[str, nn.Parameter],
    parts: Mapping[str, Sequence[nn.Parameter]],
    accelerator: Accelerator,
) -> Generator[_Pending]:
    """Take the epoch's remaining steps, moving ``position``; features are read ahead."""
    per_epoch, total = plan.steps_per_epoch(len(train)), plan.total_steps(len(train))
    epoch = position.step // per_epoch
    settings = plan.settings
    shares = [
        step_share(plan, train, step, accelerator)
        for step in range(position.step, (epoch + 1) * per_epoch)
    ]
    clips = [[train.ids[i] for i in rows] for share in shares for rows in share.passes]
    model.train()
    with prefetched(clips, train.features.batch, accelerator.device) as features:
        for share in shares:
            factor = lr_factor(position.step, total, settings.warmup_ratio, settings.min_lr_ratio)
            rates = set_rates(optimizer, factor)
            torch.manual_seed(dropout_seed(plan, position.step, accelerator))
            measured = optimizer_step(
                model,
                ((next(features), [share.captions[i] for i in rows]) for rows in share.passes),
                share.tokens,
                optimizer,
                list(trainable.values()),
                accelerator,
                settings.max_grad_norm,
                share.weight,
                lambda: gradient_norms(parts, accelerator.device),
            )
            position.step += 1
            row: dict[str, Any] = {"target_tokens": share.tokens, "samples": share.samples}
            row |= {"stage": plan.number, "step": position.step, "epoch": epoch + 1}
            row |= {"lr_projector": rates["projector"], "lr_lora": rates["lora"]}
            yield row, measured


def _settle(pending: list[_Pending], parts: Iterable[str], plan: StagePlan) -> list[dict[str, Any]]:
    """Read losses off the device once an epoch, not once a step: reading one waits for the GPU."""
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    numbers = torch.stack([measured for _, measured in pending]).tolist()
    parts = list(parts)
    rows = []
    for (row, _), (loss, norm, *norms) in zip(pending, numbers, strict=True):
        row |= {"loss": loss, "grad_norm": norm, "gpu_gb": memory, **norm_columns(parts, norms)}
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


def _end_epoch(
    model: VisionLanguageModel,
    plan: StagePlan,
    selection: Clips,
    position: Position,
    best: dict[str, Tensor],
    looks: Sequence[Look],
    accelerator: Accelerator,
) -> dict[str, Tensor]:
    """Validate, watch for collapse, and remember the weights if they are the best so far."""
    epoch = len(position.epochs) + 1

    # Mean loss of all selection tokens; each rank takes its share of the clips.
    targets = [options[0] for options in selection.captions]
    lengths = [len(target) for target in targets]
    own = share_of(lengths, accelerator.process_index, accelerator.num_processes)
    sums, counts = caption_losses(
        model,
        lambda rows: selection.features.batch([selection.ids[own[i]] for i in rows]),
        [targets[i] for i in own],
        plan.eval_batch,
        accelerator,
    )
    whole = torch.tensor([sum(sums), sum(counts)], dtype=torch.float64, device=accelerator.device)
    total, n_tokens = accelerator.reduce(whole, "sum").tolist()
    val_loss = total / n_tokens
    _require_finite(val_loss, f"validation loss of epoch {epoch}", plan)

    # Is it the best so far, and is it time to stop?
    is_best = position.best_val_loss is None or val_loss < position.best_val_loss
    if is_best:
        position.best_val_loss, position.best_epoch = val_loss, epoch
        best = {name: p.detach().clone() for name, p in model.trainable().items()}
    _watch(position, val_loss, plan.settings.early_stopping)

    # Its row of epochs.parquet.
    looked = [look(model) for look in looks] if accelerator.is_main_process else []
    in_epoch = [row for row in position.steps if row["epoch"] == epoch]
    tokens = sum(row["target_tokens"] for row in in_epoch)
    position.epochs.append(
        {
            "stage": plan.number,
            "epoch": epoch,
            "step": position.step,
            "train_loss": sum(row["loss"] * row["target_tokens"] for row in in_epoch) / tokens,
            "val_loss": val_loss,
            "is_best": is_best,
            **gradient_shares(in_epoch),
            **position.at_start,
            **{column: value for found in looked for column, value in found.items()},
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
