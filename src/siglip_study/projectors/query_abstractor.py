"""Learned queries with one cross-attention over the whole video.

The published study calls this "C-Abstractor", but it has no convolution; the genuine one is
``c_abstractor``. Its form is one post-norm decoder block (Vaswani et al. 2017,
arXiv:1706.03762) without self-attention, a plain relative of BLIP-2's Q-Former (``qformer``).
"""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._attention import QueryProjector, cross_attend, feed_forward
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.registry import register


@register("query_abstractor")
class QueryAbstractor(QueryProjector):
    """``[B, F, P, V]`` → ``[B, Q, L]``.

    x = ``Linear(V, L)`` of all F·P patches; q = LN(q + attention(q, x)); q = LN(q + FFN(q)).

    Args:
        queries: Q, tokens of a clip.
        heads: attention heads; L must be divisible by it.
        ffn_ratio: width of the FFN in units of L.
    """

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        queries: int = 64,
        heads: int = 8,
        ffn_ratio: int = 4,
    ) -> None:
        super().__init__(shape, llm_dim, queries=queries, heads=heads, ffn_ratio=ffn_ratio)
        self.attention = nn.MultiheadAttention(llm_dim, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(llm_dim)
        self.ffn = feed_forward(llm_dim, ffn_ratio)
        self.ffn_norm = nn.LayerNorm(llm_dim)

    def refine(self, tokens: Tensor, context: Tensor) -> Tensor:
        tokens = self.attention_norm(tokens + cross_attend(self.attention, tokens, context))
        return self.ffn_norm(tokens + self.ffn(tokens))
