"""Learned queries refined by self-attention and cross-attention, post-norm.

The published study calls this "Perceiver" of 134 M parameters; at 1024→4096 it has 541 M and is a
Transformer decoder (Vaswani et al. 2017, arXiv:1706.03762) over learned queries. The genuine
resampler of Flamingo is ``perceiver``.
"""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._attention import QueryProjector, cross_attend, feed_forward
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


class _Layer(nn.Module):
    """Self-attention, cross-attention, FFN, each with its residual and post-norm."""

    def __init__(self, width: int, heads: int, ffn_ratio: int) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.self_norm = nn.LayerNorm(width)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(width)
        self.ffn = feed_forward(width, ffn_ratio)
        self.ffn_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """``[B, Q, L]`` tokens and ``[B, N, L]`` context → ``[B, Q, L]``."""
        tokens = self.self_norm(tokens + cross_attend(self.self_attention, tokens, tokens))
        tokens = self.cross_norm(tokens + cross_attend(self.cross_attention, tokens, context))
        return self.ffn_norm(tokens + self.ffn(tokens))


@register("query_perceiver")
class QueryPerceiver(QueryProjector):
    """``[B, F, P, V]`` → ``[B, Q, L]``.

    x = ``Linear(V, L)`` of all F·P patches, then ``depth`` layers over Q queries and a final norm.

    Args:
        queries: Q, tokens of a clip.
        depth: number of layers.
        heads: attention heads; L must be divisible by it.
        ffn_ratio: width of the FFN in units of L.
    """

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        queries: int = 64,
        depth: int = 2,
        heads: int = 8,
        ffn_ratio: int = 4,
    ) -> None:
        super().__init__(
            shape, llm_dim, queries=queries, depth=depth, heads=heads, ffn_ratio=ffn_ratio
        )
        self.layers = nn.ModuleList(_Layer(llm_dim, heads, ffn_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(llm_dim)

    def refine(self, tokens: Tensor, context: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens, context)
        return self.norm(tokens)
