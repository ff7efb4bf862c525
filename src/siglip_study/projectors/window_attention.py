"""Attention pooling of a window, of Molmo (Deitke et al. 2024, arXiv:2409.17146) and Molmo 2.

As published it reads two layers of the encoder side by side: ``vision.layer: [-2, -9]``, whose V is
then twice the encoder's width, and ``width`` that width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from siglip_study.projectors._merging import MergingProjector
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


@register("window_attention")
class WindowAttention(MergingProjector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``: the mean of each square attends to its patches; then
    SwiGLU H → I → L without biases.

    ``Linear(V, H)`` for query, keys and values, ``Linear(H, H)`` behind.

    Args:
        side: of the square of patches that becomes one token.
        width: H; None is V.
        heads: attention heads; H must be divisible by it.
        hidden: I; None is 4·L.
    """

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        side: int = 2,
        width: int | None = None,
        heads: int = 16,
        hidden: int | None = None,
    ) -> None:
        super().__init__(shape, llm_dim, side)
        width = shape.dim if width is None else width
        hidden = 4 * llm_dim if hidden is None else hidden
        self.require_positive(width=width, heads=heads, hidden=hidden)
        self.require(
            width % heads == 0, f"heads is {heads}; expected a divisor of the width {width}"
        )
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(shape.dim, width) for _ in range(3))
        self.to_out = nn.Linear(width, width)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, llm_dim, bias=False)

    def project_frames(self, features: Tensor) -> Tensor:
        patches = self.squares(features)  # [B, F, N, side², V]
        query = patches.mean(3, keepdim=True)
        q, k, v = (
            to(x).unflatten(-1, (self.heads, -1)).transpose(-3, -2)  # [B, F, N, heads, ·, H/heads]
            for to, x in ((self.to_q, query), (self.to_k, patches), (self.to_v, patches))
        )
        read = functional.scaled_dot_product_attention(q, k, v)  # [B, F, N, heads, 1, H/heads]
        pooled = self.to_out(read.squeeze(-2).flatten(-2))
        return self.down(functional.silu(self.gate(pooled)) * self.up(pooled))
