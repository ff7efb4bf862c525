"""What the ranks of a data-parallel training tell each other.

Each rank holds the whole model and takes its share of every step's clips; gradients are summed, so
all ranks make the same step. With one rank nothing here does anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed
from torch import Tensor, nn

from siglip_study.base.errors import StudyError

if TYPE_CHECKING:
    from accelerate import Accelerator


def sum_gradients(
    parameters: Sequence[nn.Parameter], loss: Tensor, accelerator: Accelerator
) -> Tensor:
    """Sum gradients over ranks in place, and the loss; one message for all of them.

    Every rank must have gradients of the same parameters.
    """
    if accelerator.num_processes == 1:
        return loss
    trained = [p for p in parameters if p.grad is not None]
    flat = torch.cat([*(p.grad.reshape(-1).float() for p in trained), loss.reshape(1).float()])  # type: ignore[union-attr]
    torch.distributed.all_reduce(flat)
    start = 0
    for parameter in trained:
        part = flat[start : start + parameter.numel()].view_as(parameter)
        parameter.grad = part.to(parameter.dtype)
        start += parameter.numel()
    return flat[-1]


def sum_numbers(numbers: Sequence[float], accelerator: Accelerator) -> list[float]:
    """Sums over ranks, in double precision."""
    if accelerator.num_processes == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64, device=accelerator.device)
    torch.distributed.all_reduce(total)
    return [float(number) for number in total.cpu()]


@torch.no_grad()
def copy_from_rank_0(tensors: Iterable[Tensor], accelerator: Accelerator) -> None:
    """Give every rank the values of rank 0, in place."""
    if accelerator.num_processes > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor.detach(), 0)


def require_same_weights(
    parameters: Mapping[str, nn.Parameter], step: int, accelerator: Accelerator
) -> None:
    """Ranks that no longer hold the same bits at the same step would train different models.

    Raises:
        StudyError: they do not.
    """
    if accelerator.num_processes == 1:
        return
    digest = hashlib.sha256(str(step).encode())
    for parameter in parameters.values():
        digest.update(parameter.detach().reshape(-1).cpu().view(torch.uint8).numpy().tobytes())
    own = int.from_bytes(digest.digest()[:8], "big") >> 1
    mine = torch.tensor([own], dtype=torch.int64, device=accelerator.device)
    others: list[int] = accelerator.gather(mine).tolist()
    if len(set(others)) > 1:
        differing = [str(rank) for rank, value in enumerate(others) if value != others[0]]
        raise StudyError(
            f"after optimizer step {step}, the weights of rank {', '.join(differing)} differ from "
            "those of rank 0; expected the same bits on every GPU: train with runtime.gpus 1."
        )
