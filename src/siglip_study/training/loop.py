"""The training loop of one stage, in optimizer steps."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips, caption_losses, prefetched
from siglip_study.training.diagnosis import AT_START, Look
from siglip_study.training.distributed import require_same_weights
from siglip_study.training.resume import Position, ResumePoint
from siglip_study.training.step import (
    LORA,
    PROJECTOR,
    PassTooLarge,
    StagePlan,
    dropout_seed,
    gradient_norms,
    gradient_parts,
    gradient_shares,
    lr_factor,
    make_optimizer,
    norm_columns,
    optimizer_step,
    set_rates,
    share_of,
    step_share,
)

log = logging.getLogger(__name__)


def train_stage(
    model: VisionLanguageModel,
    plan: StagePlan,
    train: Clips,
    selection: Clips,
    resume: ResumePoint,
    accelerator: Accelerator,
    quick_look: Look,
    diagnosis: Look | None = None,
    on_epoch: Callable[[Position], None] = lambda _: None,
) -> Position:
    """Train what is trainable in ``model``; leave it with the weights the stage keeps.

    A stage killed at any instant and started again from ``resume`` ends, on the CPU, with the same
    bits as one left alone: data order, dropout and initialisation come from seeds derived per step.

    Every rank of a data-parallel training calls this; only rank 0 looks, reports and saves.
    ``quick_look`` captions after each epoch, ``diagnosis`` measures then and before the first step;
    ``on_epoch`` is told the history so far.

    Returns:
        The stage's history and the epoch whose weights were kept.
    """
    settings, trainable = plan.settings, model.trainable()
    buffers = {"feature_scale": model.feature_scale, "output_scale": model.output_scale}
    optimizer = make_optimizer(model, settings)
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
        found = diagnosis(model)
        position.at_start = {f"diag_start_{name}": found.get(f"diag_{name}") for name in AT_START}
    looks = [quick_look] if diagnosis is None else [quick_look, diagnosis]

    began, saved = time.monotonic() - position.seconds, time.monotonic()

    def save() -> None:
        nonlocal saved
        resume.save(position, trainable, buffers, optimizer, best)
        saved = time.monotonic()

    def is_over() -> bool:
        return position.step >= total or position.stopped

    was_over = is_over()
    while not is_over():
        # ---- The steps of an epoch, or of what is left of it; features are read ahead.
        epoch = position.step // per_epoch
        ahead = range(position.step, (epoch + 1) * per_epoch)
        shares = [step_share(plan, train, step, accelerator) for step in ahead]
        clips = [[train.ids[i] for i in rows] for share in shares for rows in share.passes]
        pending: list[_Pending] = []
        smaller: StagePlan | None = None
        model.train()
        with prefetched(clips, train.features.batch, accelerator.device) as features:
            for share in shares:
                rates = set_rates(
                    optimizer,
                    lr_factor(position.step, total, settings.warmup_ratio, settings.min_lr_ratio),
                )
                torch.manual_seed(dropout_seed(plan, position.step, accelerator))
                try:
                    measured = optimizer_step(
                        model,
                        (
                            (next(features), [share.captions[i] for i in rows])
                            for rows in share.passes
                        ),
                        share.tokens,
                        optimizer,
                        list(trainable.values()),
                        accelerator,
                        settings.max_grad_norm,
                        share.weight,
                        lambda: gradient_norms(parts, accelerator.device),
                    )
                except PassTooLarge as error:
                    smaller = _with_smaller_passes(plan, position.step, error, accelerator)
                    break
                position.step += 1
                row: dict[str, Any] = {"target_tokens": share.tokens, "samples": share.samples}
                row |= {"stage": plan.number, "step": position.step, "epoch": epoch + 1}
                row |= {"lr_projector": rates[PROJECTOR], "lr_lora": rates[LORA]}
                row["seconds"] = time.monotonic() - began
                pending.append((row, measured, [train.ids[i] for i in share.captions]))
                is_due = time.monotonic() - saved >= plan.save_seconds
                if is_due and position.step % per_epoch and accelerator.is_main_process:
                    position.steps += _settle(pending, list(parts), plan, model, train)
                    pending.clear()
                    position.seconds = time.monotonic() - began
                    save()
        position.steps += _settle(pending, list(parts), plan, model, train)
        if smaller is not None:  # the step is taken again, and what is left of the epoch
            plan = smaller
            continue
        require_same_weights(trainable, position.step, accelerator)

        # ---- What they have made.
        if _end_epoch(model, plan, selection, position, looks, accelerator):
            best = {name: p.detach().clone() for name, p in trainable.items()}
        position.seconds = position.epochs[-1]["seconds"] = time.monotonic() - began
        if accelerator.is_main_process:
            on_epoch(position)
            if not is_over():
                save()

    # ---- Keep the weights of the best epoch, or the last; who dies from here on needs no others,
    # and no optimizer: a projector of 200 million weights would write 3 GB of them.
    if settings.keep == "val_loss" and best:
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(best[name])
    if accelerator.is_main_process and not was_over:
        resume.save(position, trainable, buffers)
    return position


def _with_smaller_passes(
    plan: StagePlan, step: int, error: PassTooLarge, accelerator: Accelerator
) -> StagePlan:
    """The same steps in forward passes of half as many clips, in each rank of its own number.

    Raises:
        StudyError: the pass that found no room holds one clip already.
    """
    now = plan.clips_per_forward
    if now == 1 and error.is_own:
        raise StudyError(
            f"stage{plan.number}: step {step + 1} found no room in the GPU's memory for a pass of "
            f"{now} clips ({error}); expected a GPU that nobody else fills, runtime.memory_gb at "
            f"what is free, or runtime.checkpointing: all."
        ) from None
    half = max(1, now // 2)
    log.info(
        "stage %d: step %d found no room in the GPU's memory (%s); forward passes of %d clips from "
        "here on, in place of %d, of the same steps",
        *(plan.number, step + 1, error, half, now),
    )
    if accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
    return replace(plan, memory=replace(plan.memory, forward_clips=half))


# ---- What was measured, and whether it is a number.

# A row of steps.parquet; its loss, gradient norm and norms of parts, still on the device; its
# clips.
_Pending = tuple[dict[str, Any], Tensor, list[str]]


def _settle(
    pending: list[_Pending],
    parts: list[str],
    plan: StagePlan,
    model: VisionLanguageModel,
    train: Clips,
) -> list[dict[str, Any]]:
    """Read losses off the device once an epoch, not once a step: reading one waits for the GPU."""
    if not pending:
        return []
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    numbers = torch.stack([measured for _, measured, _ in pending]).tolist()
    for (row, _, clips), (loss, norm, *norms) in zip(pending, numbers, strict=True):
        row |= {"loss": loss, "grad_norm": norm, "gpu_gb": memory, **norm_columns(parts, norms)}
        for what in ("loss", "grad_norm"):
            if not math.isfinite(row[what]):
                told = f"{what} of step {row['step']} is {row[what]}"
                raise _not_finite(told, clips, plan, model, train)
    return [row for row, _, _ in pending]


def _not_finite(
    told: str, clips: list[str], plan: StagePlan, model: VisionLanguageModel, source: Clips
) -> StudyError:
    """The error for a figure of these clips, with the cause: features, frozen weights or rates."""
    stage = f"stage{plan.number}"
    spoilt = [clip for clip in clips if not torch.isfinite(source.features.batch([clip])).all()]
    if spoilt:
        clips, cause = spoilt, "whose features are not finite: expected others, made anew"
    elif not model.computes_numbers():
        cause = (
            "but the language model gives none of its prompt alone: expected a model without NaN "
            "in its weights, which `snakemake preflight` looks for"
        )
    else:
        cause = f"expected a finite number: lower {stage}.learning_rate or {stage}.max_grad_norm"
    more = f" and {len(clips) - _NAMED} more" if len(clips) > _NAMED else ""
    return StudyError(f"{stage}: {told} (clips {', '.join(clips[:_NAMED])}{more}), {cause}.")


#: Clips that an error names.
_NAMED = 8


def _end_epoch(
    model: VisionLanguageModel,
    plan: StagePlan,
    selection: Clips,
    position: Position,
    looks: Sequence[Look],
    accelerator: Accelerator,
) -> bool:
    """Validate and watch for collapse; whether the weights are the best so far."""
    epoch = len(position.epochs) + 1

    # Mean loss of all selection tokens; each rank takes its share of the clips.
    targets = [options[0] for options in selection.captions]
    lengths = [len(target) for target in targets]
    own = share_of(lengths, accelerator.process_index, accelerator.num_processes)
    sums, counts = caption_losses(
        model,
        lambda rows: selection.features.batch([selection.ids[own[i]] for i in rows]),
        [targets[i] for i in own],
        plan.memory.eval_clips,
        accelerator,
    )
    whole = torch.tensor([sum(sums), sum(counts)], dtype=torch.float64, device=accelerator.device)
    total, n_tokens = accelerator.reduce(whole, "sum").tolist()
    val_loss = total / n_tokens
    if not math.isfinite(val_loss):
        told = f"validation loss of epoch {epoch} is {val_loss}"
        clips = [selection.ids[own[i]] for i, loss in enumerate(sums) if not math.isfinite(loss)]
        raise _not_finite(told, clips or list(selection.ids), plan, model, selection)

    # Is it the best so far, and is it time to stop?
    is_best = position.best_val_loss is None or val_loss < position.best_val_loss
    if is_best:
        position.best_val_loss, position.best_epoch = val_loss, epoch
    if (stopping := plan.settings.early_stopping) is not None:
        # Falls are counted from the last one that counted, not from the best loss, so that small
        # ones add up.
        if position.gain_from is None or val_loss < position.gain_from - stopping.min_delta:
            position.gain_from, position.epochs_without_gain = val_loss, 0
        else:
            position.epochs_without_gain += 1
        position.stopped = position.epochs_without_gain >= stopping.patience

    # Its row of epochs.parquet.
    in_epoch = [row for row in position.steps if row["epoch"] == epoch]
    tokens = sum(row["target_tokens"] for row in in_epoch)
    row = {
        "stage": plan.number,
        "epoch": epoch,
        "step": position.step,
        "train_loss": sum(row["loss"] * row["target_tokens"] for row in in_epoch) / tokens,
        "val_loss": val_loss,
        "is_best": is_best,
        **gradient_shares(in_epoch),
        **position.at_start,
    }
    for look in looks if accelerator.is_main_process else []:
        row |= look(model)
    position.epochs.append(row)
    return is_best
