"""Pixel shuffle and a normed MLP, as in InternVL 1.5 (Chen et al. 2024, arXiv:2404.16821)."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._merging import MergingProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


@register("pixel_shuffle_mlp")
class PixelShuffleMlp(MergingProjector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``: squares concatenated, LayerNorm, ``Linear(s²V, L)``,
    GELU, ``Linear(L, L)``.

    Args:
        side: s, of the square of patches that becomes one token.
    """

    def __init__(self, shape: FeatureShape, llm_dim: int, *, side: int = 2) -> None:
        super().__init__(shape, llm_dim, side)
        width = side**2 * shape.dim
        self.net = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, llm_dim), nn.GELU(), nn.Linear(llm_dim, llm_dim)
        )

    def project_frames(self, features: Tensor) -> Tensor:
        return self.net(self.squares(features).flatten(3))
