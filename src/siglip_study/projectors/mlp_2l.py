"""Two affine maps per patch, as in LLaVA-1.5 (Liu et al. 2024, "Improved Baselines with Visual
Instruction Tuning", arXiv:2310.03744)."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._pooling import average_patches, cells_of
from siglip_study.projectors.base import FeatureShape, Projector
from siglip_study.projectors.registry import register


@register("mlp_2l")
class Mlp2lProjector(Projector):
    """``[B, F, P, V]`` → ``[B, F·P, L]`` by ``Linear(V, H)``, GELU, ``Linear(H, L)``.

    Position: as ``linear``, the order of the tokens alone (frame-major, row-major).

    Args:
        hidden: H; None is L, the LLaVA-1.5 form.
        tokens_per_frame: tokens of a frame, means of neighbouring patches; None: one a patch.
    """

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        hidden: int | None = None,
        tokens_per_frame: int | None = None,
    ) -> None:
        super().__init__(shape, llm_dim)
        hidden = llm_dim if hidden is None else hidden
        self.require(hidden >= 1, f"hidden is {hidden}; expected at least 1")
        self.cells = cells_of(self, tokens_per_frame)
        self.net = nn.Sequential(
            nn.Linear(shape.dim, hidden), nn.GELU(), nn.Linear(hidden, llm_dim)
        )

    def project(self, features: Tensor) -> Tensor:
        if self.cells is not None:
            features = average_patches(features, self.shape.grid, self.cells)
        return self.net(features).flatten(1, 2)  # [B, F, P, L] → [B, F·P, L]

    def tokens_per_video(self, frames: int) -> int:
        """F · P, or F · ``tokens_per_frame``."""
        rows, columns = self.cells or self.shape.grid
        return frames * rows * columns
