"""Losses of given captions, without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from siglip_study.runs.clips import prefetched


@torch.no_grad()
def caption_losses(
    model: LossModel,
    features: Callable[[list[int]], Tensor],
    captions: list[tuple[int, ...]],
    batch: int,
    accelerator: Accelerator,
) -> tuple[list[float], list[int]]:
    """Summed loss (nats) and target tokens of each caption.

    Args:
        model: is put into eval mode.
        features: positions of captions → their videos' features ``[B, F, P, V]``; called by a
            thread that reads ahead.
        captions: token ids that end in EOS.
        batch: captions a forward pass; captions of like length share one.
        accelerator: gives device and autocast.
    """
    model.eval()
    if not captions:
        return [], []
    lengths = [len(caption) for caption in captions]
    passes = forward_passes(lengths, batch)
    losses: list[Tensor] = []
    with prefetched(passes, features, accelerator.device) as batches:
        for rows, videos in zip(passes, batches, strict=True):
            with accelerator.autocast():
                losses.append(model.caption_loss(videos, [captions[i] for i in rows])[0])
    # One transfer at the end: each would wait for the GPU.
    in_passes = torch.cat(losses).tolist()
    by_caption = dict(zip((i for rows in passes for i in rows), in_passes, strict=True))
    return [by_caption[i] for i in range(len(captions))], lengths


class LossModel(Protocol):
    """What a step needs of a model: summed loss and target tokens, ``[B]`` each."""

    def caption_loss(
        self, features: Tensor, captions: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]: ...

    def eval(self) -> Any: ...


def forward_passes(lengths: Sequence[int], clips: int) -> list[list[int]]:
    """Positions of the clips of each forward pass of at most ``clips``.

    Several passes take the longest captions first: rows of one pass need little padding, and a GPU
    whose memory does not suffice says so at once. One pass keeps the order.
    """
    if len(lengths) <= clips:
        return [list(range(len(lengths)))]
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [longest_first[start : start + clips] for start in range(0, len(lengths), clips)]
