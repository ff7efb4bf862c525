"""Learned queries with one cross-attention over the whole video.

The published study calls this "C-Abstractor", but it has no convolution; the genuine one is
``c_abstractor``. Its form is one post-norm decoder block (Vaswani et al. 2017) without
self-attention, a plain relative of BLIP-2's Q-Former (Li et al. 2023).
"""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._attention import cross_attend, feed_forward
from siglip_study.projectors.base import FeatureShape, Projector, learned_embedding
from siglip_study.projectors.registry import register


@register("query_abstractor")
class QueryAbstractor(Projector):
    """``[B, F, P, V]`` → ``[B, Q, L]``.

    x = ``Linear(V, L)`` of all F·P patches; q = LN(q + attention(q, x)); q = LN(q + FFN(q)).

    Position: none. Attention sees the patches of all frames as a set: frame order is lost, and
    the place within a frame survives only as far as the vision encoder wrote it into the features.

    Args:
        queries: Q, tokens of a clip.
        heads: attention heads; L must be divisible by it.
        ffn_ratio: width of the FFN in units of L.
    """

    embeddings = ("queries",)
    per_frame = False

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        queries: int = 64,
        heads: int = 8,
        ffn_ratio: int = 4,
    ) -> None:
        super().__init__(shape, llm_dim)
        self.require(
            min(queries, heads, ffn_ratio) >= 1,
            f"queries {queries}, heads {heads}, ffn_ratio {ffn_ratio}; expected each at least 1",
        )
        self.require(
            llm_dim % heads == 0, f"heads is {heads}; expected a divisor of llm_dim {llm_dim}"
        )
        self.queries = learned_embedding(queries, llm_dim)
        self.proj = nn.Linear(shape.dim, llm_dim)
        self.attention = nn.MultiheadAttention(llm_dim, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(llm_dim)
        self.ffn = feed_forward(llm_dim, ffn_ratio)
        self.ffn_norm = nn.LayerNorm(llm_dim)

    def project(self, features: Tensor) -> Tensor:
        context = self.proj(features).flatten(1, 2)  # [B, F·P, L]
        tokens = self.queries.expand(len(features), -1, -1)  # [B, Q, L]
        tokens = self.attention_norm(tokens + cross_attend(self.attention, tokens, context))
        return self.ffn_norm(tokens + self.ffn(tokens))

    def tokens_per_video(self, frames: int) -> int:
        """Q, whatever the length of the clip."""
        return len(self.queries)
