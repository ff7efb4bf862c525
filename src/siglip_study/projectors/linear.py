"""One affine map per patch, as in LLaVA (Liu et al. 2023, "Visual Instruction Tuning",
arXiv:2304.08485)."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._pooling import PatchProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


@register("linear")
class LinearProjector(PatchProjector):
    """``[B, F, P, V]`` → ``[B, F·P, L]``: ``Linear(V, L)`` of each patch.

    Args:
        tokens_per_frame: tokens of a frame, means of neighbouring patches; None: one a patch.
    """

    def __init__(
        self, shape: FeatureShape, llm_dim: int, *, tokens_per_frame: int | None = None
    ) -> None:
        super().__init__(shape, llm_dim, tokens_per_frame)
        self.proj = nn.Linear(shape.dim, llm_dim)

    def project_patches(self, features: Tensor) -> Tensor:
        return self.proj(features)
