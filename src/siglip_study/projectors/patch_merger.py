"""Patch merging of Qwen2-VL (Wang et al. 2024, arXiv:2409.12191) and, with RMSNorm, of Qwen2.5-VL
(Bai et al. 2025, arXiv:2502.13923)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from siglip_study.projectors._merging import MergingProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register

_EPSILON = 1e-6


@register("patch_merger")
class PatchMerger(MergingProjector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``: norm of each patch, squares concatenated,
    ``Linear(s²V, s²V)``, GELU, ``Linear(s²V, L)``.

    Args:
        side: s, of the square of patches that becomes one token.
        norm: ``layer`` as in Qwen2-VL, or ``rms`` as in Qwen2.5-VL.
    """

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        side: int = 2,
        norm: Literal["layer", "rms"] = "layer",
    ) -> None:
        super().__init__(shape, llm_dim, side)
        self.norm: nn.Module
        if norm == "rms":
            self.norm = nn.RMSNorm(shape.dim, eps=_EPSILON)
        else:
            self.norm = nn.LayerNorm(shape.dim, eps=_EPSILON)
        width = side**2 * shape.dim
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, llm_dim))

    def project_frames(self, features: Tensor) -> Tensor:
        return self.mlp(self.squares(self.norm(features)).flatten(3))
