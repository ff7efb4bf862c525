"""Average pooling, a norm and one linear map, as in Gemma 3 (Gemma Team 2025, arXiv:2503.19786)."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._merging import MergingProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register

_EPSILON = 1e-6


@register("pool_norm_linear")
class PoolNormLinear(MergingProjector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``: the mean of each square, RMSNorm, ``Linear(V, L)``
    without bias.

    Args:
        side: of the square of patches that becomes one token: 4 in Gemma 3.
    """

    def __init__(self, shape: FeatureShape, llm_dim: int, *, side: int = 2) -> None:
        super().__init__(shape, llm_dim, side)
        self.norm = nn.RMSNorm(shape.dim, eps=_EPSILON)
        self.proj = nn.Linear(shape.dim, llm_dim, bias=False)

    def project_frames(self, features: Tensor) -> Tensor:
        return self.proj(self.norm(self.squares(features).mean(dim=3)))
