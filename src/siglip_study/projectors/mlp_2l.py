"""Two affine maps per patch, as in LLaVA-1.5 (Liu et al. 2024, "Improved Baselines with Visual
Instruction Tuning", arXiv:2310.03744)."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._pooling import PatchProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


@register("mlp_2l")
class Mlp2lProjector(PatchProjector):
    """``[B, F, P, V]`` → ``[B, F·P, L]``: ``Linear(V, H)``, GELU, ``Linear(H, L)`` of each patch.

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
        super().__init__(shape, llm_dim, tokens_per_frame)
        hidden = llm_dim if hidden is None else hidden
        self.require(hidden >= 1, f"hidden is {hidden}; expected at least 1")
        self.net = nn.Sequential(
            nn.Linear(shape.dim, hidden), nn.GELU(), nn.Linear(hidden, llm_dim)
        )

    def project_patches(self, features: Tensor) -> Tensor:
        return self.net(features)
