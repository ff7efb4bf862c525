"""One optimizer step: what it sees, how fast each weight learns, and the step itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from siglip_study.base.errors import first_line
from siglip_study.base.seeds import derived_seed
from siglip_study.config.training import StageConfig
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips, epoch_order, forward_passes
from siglip_study.training.distributed import first_in_need, sum_gradients
from siglip_study.training.memory import MemoryPlan

#: The parts of a model that train, each with a learning rate of its own.
PROJECTOR, LORA = "projector", "lora"

# ---- What a stage does step by step, apart from the model: a function of settings and seed.


@dataclass(frozen=True)
class StagePlan:
    """What a stage does, apart from the model: its number, settings, seed and pace of saving.

    ``memory`` bounds a forward pass below the settings' batch size where need be; the steps stay
    the same.
    """

    number: int
    settings: StageConfig
    seed: int
    save_seconds: float
    memory: MemoryPlan

    @property
    def clips_per_step(self) -> int:
        return self.settings.batch_size * self.settings.gradient_accumulation

    @property
    def clips_per_forward(self) -> int:
        return min(self.settings.batch_size, self.memory.forward_clips)

    def steps_per_epoch(self, clips: int) -> int:
        """Optimizer steps that see every clip once; the last one may be smaller."""
        return math.ceil(clips / self.clips_per_step)

    def total_steps(self, clips: int) -> int:
        return self.settings.epochs * self.steps_per_epoch(clips)


@dataclass(frozen=True)
class StepShare:
    """What one rank does of a step: its forward passes, and the size of the whole step."""

    passes: list[list[int]]
    captions: dict[int, tuple[int, ...]]
    tokens: int
    samples: int
    weight: float  # of this rank's clips; see optimizer_step


def step_share(plan: StagePlan, train: Clips, step: int, accelerator: Accelerator) -> StepShare:
    """The share of this rank in a stage's ``step``, counted from 0."""
    epoch, in_epoch = divmod(step, plan.steps_per_epoch(len(train)))
    order = epoch_order(len(train), plan.seed, plan.number, epoch)
    chosen = order[in_epoch * plan.clips_per_step : (in_epoch + 1) * plan.clips_per_step]
    captions = {i: train.caption(i, epoch, plan.seed) for i in chosen}
    lengths = [len(captions[i]) for i in chosen]
    dealt = share_of(lengths, accelerator.process_index, accelerator.num_processes)
    # With more ranks than clips, some run another's without counting it.
    own, weight = ([chosen[i] for i in dealt], 1.0) if dealt else (chosen[:1], 0.0)
    passes = forward_passes([len(captions[i]) for i in own], plan.clips_per_forward)
    # Every token weighs the same, however the clips fall into forward passes and ranks.
    return StepShare(
        [[own[i] for i in rows] for rows in passes], captions, sum(lengths), len(chosen), weight
    )


def share_of(lengths: Sequence[int], rank: int, ranks: int) -> list[int]:
    """Positions of the clips that a rank takes: as many as any other, ± 1, and of like length.

    Clips are dealt longest first, to and fro: 0 1 1 0 0 1 … One rank takes all in their order.
    """
    if ranks == 1:
        return list(range(len(lengths)))
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    dealt = [*range(ranks), *reversed(range(ranks))]
    return [clip for turn, clip in enumerate(longest_first) if dealt[turn % len(dealt)] == rank]


def dropout_seed(plan: StagePlan, step: int, accelerator: Accelerator) -> int:
    """Ranks see different clips, and drop different activations of them."""
    rank = (accelerator.process_index,) if accelerator.num_processes > 1 else ()
    return derived_seed("step", plan.seed, plan.number, step, *rank)


# ---- AdamW with a learning rate for the projector and one for the adapters.


def make_optimizer(model: VisionLanguageModel, stage: StageConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), betas .9 and .999, on what trains in ``model``.

    Its groups say ``peak`` (the learning rate at factor 1) and ``part`` ("projector" or "lora").
    Biases, norms and queries never decay.
    """
    projector_rate = stage.learning_rate
    rates = {PROJECTOR: projector_rate, LORA: stage.lora_learning_rate or projector_rate}
    no_decay = {f"projector.{name}" for name in model.projector.no_decay_parameters()}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.trainable().items():
        part = LORA if "lora_" in name else PROJECTOR
        # DoRA's magnitudes are vectors too: scales of rows, as in a norm.
        decays = name not in no_decay and parameter.dim() > 1
        groups.setdefault((part, decays), []).append(parameter)
    made = [
        {
            "params": parameters,
            "part": part,
            "peak": rates[part],
            "lr": rates[part],
            "weight_decay": stage.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(made, fused=model.feature_scale.device.type == "cuda")


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group's rate to ``peak × factor``; returns the rate of each part."""
    rates = {PROJECTOR: 0.0, LORA: 0.0}
    for group in optimizer.param_groups:
        group["lr"] = rates[group["part"]] = group["peak"] * factor
    return rates


def lr_factor(step: int, total: int, warmup_ratio: float, floor: float) -> float:
    """Factor in [0, 1] of the peak rate in a step, 0 ≤ step < total: warm-up, then cosine.

    The last of the ``warmup_ratio`` of all steps reaches 1, the stage's last one ``floor``.
    """
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup + 1) / max(total - warmup, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


# ---- Which part of the model the gradient falls on, without waiting for the GPU in a step.


def gradient_parts(trainable: Mapping[str, nn.Parameter]) -> dict[str, list[nn.Parameter]]:
    """Part → its parameters: ``projector.<child>`` for each child of the projector, then ``lora``.

    ``lora`` is there in both stages, so that histories have the same columns; in stage 1 it is
    empty.
    """
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        part = ".".join(name.split(".")[:2]) if name.startswith(f"{PROJECTOR}.") else LORA
        parts.setdefault(part, []).append(parameter)
    adapters = parts.pop(LORA, [])
    return {**parts, LORA: adapters}


def gradient_norms(parts: Mapping[str, Sequence[nn.Parameter]], device: torch.device) -> Tensor:
    """L2 norm of each part's gradient, ``[parts]`` float32 on the device."""
    norms = []
    for parameters in parts.values():
        found = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(found) if found else torch.zeros((), device=device)
        norms.append(norm.float())
    return torch.stack(norms)


def norm_columns(parts: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    """Columns of steps.parquet: ``grad_norm_<part>``, and the projector as a whole."""
    of_parts = dict(zip(parts, norms, strict=True))
    whole = sum(norm**2 for part, norm in of_parts.items() if part != LORA) ** 0.5
    return {f"grad_norm_{part}": norm for part, norm in {PROJECTOR: whole, **of_parts}.items()}


def gradient_shares(steps: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Columns of epochs.parquet: each part's share of the squared gradient norm of some steps.

    ``grad_share_projector`` and ``grad_share_lora`` add up to 1, as do the former's parts to it.
    None where there was no gradient at all. AdamW divides each weight's step by its own gradient,
    so a share says where the loss is steep and not how far weights move.
    """
    prefix = "grad_norm_"
    names = [key.removeprefix(prefix) for key in steps[0] if key.startswith(prefix)]
    squares = {name: sum(row[prefix + name] ** 2 for row in steps) for name in names}
    total = squares[PROJECTOR] + squares[LORA]
    return {
        f"grad_share_{name}": square / total if total else None for name, square in squares.items()
    }


# ---- The step.


class PassTooLarge(torch.OutOfMemoryError):
    """A rank's GPU had no room for a forward or backward pass; no weight was touched yet.

    All ranks raise it; ``is_own`` in those that found none.
    """

    def __init__(self, why: str, is_own: bool) -> None:
        super().__init__(why)
        self.is_own = is_own


def optimizer_step(
    model: VisionLanguageModel,
    batches: Iterable[tuple[Tensor, Sequence[Sequence[int]]]],
    tokens: int,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    accelerator: Accelerator,
    max_grad_norm: float,
    weight: float = 1.0,
    figures: Callable[[], Tensor] | None = None,
) -> Tensor:
    """One step on the mean loss of ``tokens`` target tokens, however they fall into batches.

    Nothing here waits for the GPU. ``model`` is in train mode; ``batches`` are features
    ``[B, F, P, V]`` on the device and their captions, a forward pass each; ``tokens`` counts those
    of all batches and all ranks. ``optimizer`` is that of ``parameters``, all that trains, whose
    gradients are summed over ranks and clipped to a norm of ``max_grad_norm``. ``weight`` is 0 for
    a rank without clips of its own, which runs another's without counting it: every rank must know
    which parameters have gradients. ``figures`` is asked for ``[n]`` more figures when gradients
    are whole and not yet clipped.

    Returns:
        Loss, gradient norm before clipping and those figures, ``[2 + n]`` on the device.

    Raises:
        PassTooLarge: a batch finds no room, in this rank or another; gradients are dropped.
    """
    loss: Tensor = torch.zeros((), device=accelerator.device)
    why: str | None = None
    try:
        for features, captions in batches:
            with accelerator.autocast():
                losses, _ = model.caption_loss(features, captions)
            part = losses.sum() / tokens
            if weight != 1.0:
                part = part * weight
            accelerator.backward(part)
            loss += part.detach()
    except torch.OutOfMemoryError as error:
        why = first_line(error)
    # One rank cannot step without the others: all take the step again.
    if (rank := first_in_need(why is not None, accelerator)) is not None:
        optimizer.zero_grad(set_to_none=True)
        raise PassTooLarge(why or f"rank {rank} found none", is_own=why is not None)
    loss = sum_gradients(parameters, loss, accelerator)
    more = [] if figures is None else [figures()]
    norm: Any = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.cat([torch.stack([loss, norm]), *more])
