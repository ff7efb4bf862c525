"""The MLP of LLaVA-1.5, and squares of its tokens averaged, as in LLaVA-OneVision (Li et al.
2024, arXiv:2408.03326) and PerceptionLM (Cho et al. 2025, arXiv:2504.13180).

LLaVA-OneVision halves the grid by bilinear interpolation, which on even grids is the same average.
DeCo (Yao et al. 2024, arXiv:2405.20985) averages first: that is ``mlp_2l`` with
``tokens_per_frame``.
"""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._merging import MergingProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


@register("mlp_pool")
class MlpPool(MergingProjector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``: ``Linear(V, H)``, GELU, ``Linear(H, L)`` of each patch;
    then the mean of each square.

    Args:
        side: of the square of patches that becomes one token.
        hidden: H; None is L.
    """

    def __init__(
        self, shape: FeatureShape, llm_dim: int, *, side: int = 2, hidden: int | None = None
    ) -> None:
        super().__init__(shape, llm_dim, side)
        hidden = llm_dim if hidden is None else hidden
        self.require_positive(hidden=hidden)
        self.net = nn.Sequential(
            nn.Linear(shape.dim, hidden), nn.GELU(), nn.Linear(hidden, llm_dim)
        )

    def project_frames(self, features: Tensor) -> Tensor:
        return self.squares(self.net(features)).mean(dim=3)
