"""The two pieces that the query projectors share."""

from __future__ import annotations

from torch import Tensor, nn


def cross_attend(attention: nn.MultiheadAttention, queries: Tensor, context: Tensor) -> Tensor:
    """``[B, Q, L]`` queries attend to ``[B, N, L]`` context; returns ``[B, Q, L]``.

    No attention weights are asked for, which keeps torch on its fused kernel.
    """
    attended, _ = attention(queries, context, context, need_weights=False)
    return attended


def feed_forward(width: int, ratio: int) -> nn.Sequential:
    """``Linear(L, ratio·L)``, GELU, ``Linear(ratio·L, L)``."""
    return nn.Sequential(
        nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
    )
