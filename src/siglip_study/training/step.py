"""One optimizer step: how its clips fall into forward passes and ranks, and the step itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from siglip_study.training.parallel import sum_gradients

if TYPE_CHECKING:
    from accelerate import Accelerator


class LossModel(Protocol):
    """What a step needs of a model: summed loss and target tokens, ``[B]`` each."""

    def caption_loss(
        self, features: Tensor, captions: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]: ...

    def eval(self) -> Any: ...


def share_of(lengths: Sequence[int], rank: int, ranks: int) -> list[int]:
    """Positions of the clips that a rank takes: as many as any other, ± 1, and of like length.

    Clips are dealt longest first, to and fro: 0 1 1 0 0 1 …
    """
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    dealt = [*range(ranks), *reversed(range(ranks))]
    return [clip for turn, clip in enumerate(longest_first) if dealt[turn % len(dealt)] == rank]


def forward_passes(lengths: Sequence[int], clips: int) -> list[list[int]]:
    """Positions of the clips of each forward pass of at most ``clips``.

    Several passes take the longest captions first: rows of one pass need little padding, and a GPU
    whose memory does not suffice says so at once. One pass keeps the order.
    """
    if len(lengths) <= clips:
        return [list(range(len(lengths)))]
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [longest_first[start : start + clips] for start in range(0, len(lengths), clips)]


def optimizer_step(
    model: LossModel,
    batches: Iterable[tuple[Tensor, Sequence[Sequence[int]]]],
    tokens: int,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    accelerator: Accelerator,
    max_grad_norm: float,
    weight: float = 1.0,
    before_clipping: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """One step on the mean loss of ``tokens`` target tokens, however they fall into batches.

    Nothing here waits for the GPU.

    Args:
        model: in train mode.
        batches: features ``[B, F, P, V]`` on the device and their captions, a forward pass each.
        tokens: target tokens of the step, over all its batches and all ranks.
        optimizer: of ``parameters``.
        parameters: everything that trains.
        accelerator: gives autocast, and the ranks whose gradients are summed.
        max_grad_norm: gradients are clipped to this norm.
        weight: 0 for a rank without clips of its own, which runs another's without counting it:
            every rank must know which parameters have gradients.
        before_clipping: called when gradients are whole, the same on all ranks, and not clipped.

    Returns:
        Loss and gradient norm before clipping, on the device.
    """
    loss: Tensor = torch.zeros((), device=accelerator.device)
    for features, captions in batches:
        with accelerator.autocast():
            losses, _ = model.caption_loss(features, captions)
        part = losses.sum() / tokens
        if weight != 1.0:
            part = part * weight
        accelerator.backward(part)
        loss += part.detach()
    loss = sum_gradients(parameters, loss, accelerator)
    if before_clipping is not None:
        before_clipping()
    norm: Any = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm
