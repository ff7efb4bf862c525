"""Pixel shuffle of Idefics3 (Laurençon et al. 2024, arXiv:2408.12637) and SmolVLM (Marafioti et al.
2025, arXiv:2504.05299): space to depth, then one linear map."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._merging import MergingProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


@register("pixel_shuffle")
class PixelShuffle(MergingProjector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``: squares concatenated, ``Linear(s²V, L)`` without bias.

    Args:
        side: s, of the square of patches that becomes one token: 2 in Idefics3, 3 or 4 in SmolVLM.
    """

    def __init__(self, shape: FeatureShape, llm_dim: int, *, side: int = 2) -> None:
        super().__init__(shape, llm_dim, side)
        self.proj = nn.Linear(side**2 * shape.dim, llm_dim, bias=False)

    def project_frames(self, features: Tensor) -> Tensor:
        return self.proj(self.squares(features).flatten(3))
