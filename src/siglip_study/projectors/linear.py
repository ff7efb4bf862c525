"""One affine map per patch, as in LLaVA (Liu et al. 2023, "Visual Instruction Tuning")."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._pooling import average_patches, cells_of
from siglip_study.projectors.base import FeatureShape, Projector
from siglip_study.projectors.registry import register


@register("linear")
class LinearProjector(Projector):
    """``[B, F, P, V]`` → ``[B, F·P, L]`` by ``Linear(V, L)``.

    Position: each token is one patch of one frame, and the tokens keep frame-major, row-major
    order; the language model's own positions tell them apart. None is added here.

    Args:
        tokens_per_frame: tokens of a frame, means of neighbouring patches; None: one a patch.
    """

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        tokens_per_frame: int | None = None,
    ) -> None:
        super().__init__(shape, llm_dim)
        self.cells = cells_of(self, tokens_per_frame)
        self.proj = nn.Linear(shape.dim, llm_dim)

    def project(self, features: Tensor) -> Tensor:
        if self.cells is not None:
            features = average_patches(features, self.shape.grid, self.cells)
        return self.proj(features).flatten(1, 2)  # [B, F, P, L] → [B, F·P, L]

    def tokens_per_video(self, frames: int) -> int:
        """F · P, or F · ``tokens_per_frame``."""
        rows, columns = self.cells or self.shape.grid
        return frames * rows * columns
