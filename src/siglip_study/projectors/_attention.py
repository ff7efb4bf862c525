"""What the query projectors share: learned queries that read all patches of a clip."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from siglip_study.projectors.base import FeatureShape, Projector, learned_embedding


class QueryProjector(Projector):
    """``[B, F, P, V]`` → ``[B, Q, L]``: Q learned queries read ``Linear(V, L)`` of all patches.

    Position: none. Attention sees the patches of all frames as a set: frame order is lost, and
    the place within a frame survives only as far as the vision encoder wrote it into the features.
    """

    embeddings = ("queries",)
    per_frame = False

    def __init__(self, shape: FeatureShape, llm_dim: int, **sizes: int) -> None:
        """``sizes`` are the subclass's options, ``queries`` and ``heads`` among them."""
        super().__init__(shape, llm_dim)
        self.require_positive(**sizes)
        heads = sizes["heads"]
        self.require(
            llm_dim % heads == 0, f"heads is {heads}; expected a divisor of llm_dim {llm_dim}"
        )
        self.queries = learned_embedding(sizes["queries"], llm_dim)
        self.proj = nn.Linear(shape.dim, llm_dim)

    def project(self, features: Tensor) -> Tensor:
        context = self.proj(features).flatten(1, 2)  # [B, F·P, L]
        return self.refine(self.queries.expand(len(features), -1, -1), context)

    @abstractmethod
    def refine(self, tokens: Tensor, context: Tensor) -> Tensor:
        """``[B, Q, L]`` queries and ``[B, F·P, L]`` context → ``[B, Q, L]`` tokens."""

    def tokens_per_video(self, frames: int) -> int:
        """Q, whatever the length of the clip."""
        return len(self.queries)


def cross_attend(attention: nn.MultiheadAttention, queries: Tensor, context: Tensor) -> Tensor:
    """``[B, Q, L]`` queries attend to ``[B, N, L]`` context; returns ``[B, Q, L]``.

    No attention weights are asked for, which keeps torch on its fused kernel.
    """
    attended, _ = attention(queries, context, context, need_weights=False)
    return attended


def feed_forward(width: int, ratio: int) -> nn.Sequential:
    """``[…, L]`` → ``[…, L]``: ``Linear(L, ratio·L)``, GELU, ``Linear(ratio·L, L)``."""
    return nn.Sequential(
        nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
    )
