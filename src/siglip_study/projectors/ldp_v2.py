"""The lightweight downsample projector of MobileVLM V2 (Chu et al. 2024, arXiv:2402.03766)."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._merging import MergingProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


@register("ldp_v2")
class LdpV2(MergingProjector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``: ``Linear(V, L)``, GELU, ``Linear(L, L)`` of each patch;
    the mean of each square; a depthwise 3×3 convolution over a frame's tokens, added to them.

    Position: the convolution's zero padding tells the border of a frame.

    Args:
        side: of the square of patches that becomes one token.
    """

    def __init__(self, shape: FeatureShape, llm_dim: int, *, side: int = 2) -> None:
        super().__init__(shape, llm_dim, side)
        self.mlp = nn.Sequential(
            nn.Linear(shape.dim, llm_dim), nn.GELU(), nn.Linear(llm_dim, llm_dim)
        )
        self.place = nn.Conv2d(llm_dim, llm_dim, 3, padding=1, groups=llm_dim)

    def project_frames(self, features: Tensor) -> Tensor:
        tokens = self.squares(self.mlp(features)).mean(dim=3)  # [B, F, N, L]
        images = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, self.cells)
        placed = images + self.place(images)  # [B·F, L, rows, columns]
        return placed.flatten(2).transpose(1, 2).view_as(tokens)
