"""Spatial-temporal convolution of VideoLLaMA 2 (Cheng et al. 2024, arXiv:2406.07476): the one
connector here that mixes frames by convolution.

Its stages are those of the C-Abstractor. The strided convolution has no padding, as in VideoLLaMA
2.1 (the first version padded by one and so kept a frame, row and column more).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siglip_study.projectors.base import FeatureShape, Projector
from siglip_study.projectors.c_abstractor import RegBlock
from siglip_study.projectors.registry import register

_STRIDE = 2


@register("stc")
class SpatialTemporalConvolution(Projector):
    """``[B, F, P, V]`` → ``[B, ⌈F/2⌉·⌈rows/2⌉·⌈columns/2⌉, L]``, ordered by time, row, column.

    ResNet stage V→H on each frame; 2×2×2 convolution of stride 2 over time, rows and columns, SiLU;
    stage H→H; ``Linear(H, L)``, GELU, ``Linear(L, L)``. Where a size is odd, its last frame, row or
    column is repeated.

    Position: the two frames of a step have weights of their own, so that order within it is seen;
    beyond it, as rows and columns, tokens keep their order.

    Args:
        depth: blocks in each of the two stages.
        hidden: H, channels of the stages; None is L, as published.
    """

    per_frame = False

    def __init__(
        self, shape: FeatureShape, llm_dim: int, *, depth: int = 4, hidden: int | None = None
    ) -> None:
        super().__init__(shape, llm_dim)
        hidden = llm_dim if hidden is None else hidden
        self.require_positive(depth=depth, hidden=hidden)
        self.before = _stage(depth, shape.dim, hidden)
        self.merge = nn.Sequential(nn.Conv3d(hidden, hidden, _STRIDE, stride=_STRIDE), nn.SiLU())
        self.after = _stage(depth, hidden, hidden)
        self.readout = nn.Sequential(
            nn.Linear(hidden, llm_dim), nn.GELU(), nn.Linear(llm_dim, llm_dim)
        )

    def project(self, features: Tensor) -> Tensor:
        batch, frames = features.shape[:2]
        images = features.transpose(2, 3).unflatten(3, self.shape.grid).flatten(0, 1)
        volume = self.before(images).unflatten(0, (batch, frames))  # [B, F, H, rows, columns]
        for axis in (1, 3, 4):
            if volume.shape[axis] % _STRIDE:
                last = volume.narrow(axis, volume.shape[axis] - 1, 1)
                volume = torch.cat([volume, last], dim=axis)
        steps = self.merge(volume.transpose(1, 2)).transpose(1, 2)  # [B, F/2, H, …]
        steps = self.after(steps.flatten(0, 1)).unflatten(0, (batch, -1))
        return self.readout(steps.flatten(3).transpose(2, 3).flatten(1, 2))

    def tokens_per_video(self, frames: int) -> int:
        """⌈F/2⌉ · ⌈rows/2⌉ · ⌈columns/2⌉."""
        steps, rows, columns = (-(-size // _STRIDE) for size in (frames, *self.shape.grid))
        return steps * rows * columns


def _stage(depth: int, in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        *(RegBlock(in_channels if i == 0 else channels, channels) for i in range(depth))
    )
