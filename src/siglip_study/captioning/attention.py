"""Attention of new tokens over a cache of a fixed size, which only a mask ends.

transformers repeats every key for each query head that shares it once there is a mask. Here the
queries that share a key stand side by side instead, and no key is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

_NAME = "siglip_study_grouped"
# What some models pass beside the mask, and what they keep it under: sinks, a cap on scores, a
# bias or a choice of keys. Each changes the result.
_UNKNOWN_HERE = ("s_aux", "sinks", "softcap", "position_bias", "indices", "block_indices")
_KEPT_AS = ("sinks", "attn_logit_softcapping")


def can_group(model: nn.Module) -> bool:
    """Whether :func:`grouped_attention` computes what this model's own attention does.

    False for attention sinks (GPT-OSS) and capped scores (Gemma 2).
    """
    return all(
        getattr(module, name, None) is None for module in model.modules() for name in _KEPT_AS
    )


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **ignored: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface for ``[B, H·G, q, D]`` queries over H key heads.

    Args:
        module: the attention layer.
        query: ``[B, H·G, q, D]``.
        key: ``[B, H, S, D]``.
        value: ``[B, H, S, D]``.
        attention_mask: ``[1, 1, q, S]``, true where a query may look.
        scaling: factor of the scores; null: 1 / √D.
        ignored: what other implementations want to know.

    Returns:
        ``[B, q, H·G, D]``, and no weights.

    Raises:
        ValueError: the model passes something that changes the result; see :func:`can_group`.
    """
    passed = next((name for name in _UNKNOWN_HERE if ignored.get(name) is not None), None)
    if passed is not None:
        raise ValueError(
            f"{type(module).__name__} passes '{passed}' to its attention; expected an attention of "
            "queries, keys, values and a mask alone."
        )
    batch, heads, length, width = query.shape
    groups = heads // key.shape[1]
    mixed = scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], groups * length, width),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, groups, 1),
        scale=scaling,
    )
    return mixed.reshape(batch, heads, length, -1).transpose(1, 2).contiguous(), None


@contextmanager
def grouped(config: Any) -> Iterator[None]:
    """Let a model with this config use :func:`grouped_attention` for a while."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, grouped_attention)
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def causal_masks(
    config: Any, windows: list[int | None], positions: Tensor, bound: int
) -> Tensor | dict[str, Tensor]:
    """Masks ``[1, 1, q, bound]`` of queries at ``positions`` ``[q]`` over a cache from 0 on.

    Returns:
        one for all layers, or one for each kind of layer the config names.
    """
    keys = torch.arange(bound, device=positions.device)

    def mask(window: int | None) -> Tensor:
        seen = keys <= positions[:, None]
        if window is not None:
            seen &= keys > positions[:, None] - window
        return seen[None, None]

    if len(set(windows)) == 1:
        return mask(windows[0])
    return {kind: mask(window) for kind, window in zip(config.layer_types, windows, strict=True)}
