"""A key-value cache for prompts of one length: dense, allocated once, cut when rows finish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import Cache, CacheLayerMixin

# ---- Attention of new tokens over a cache of a fixed size, which only a mask ends.
#
# transformers repeats every key for each query head that shares it once there is a mask. Here the
# queries that share a key stand side by side instead, and no key is copied.

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
    """transformers' attention interface: ``[B, H·G, q, D]`` over ``[B, H, S, D]`` keys and values.

    The mask ``[1, 1, q, S]`` is true where a query may look; scores are scaled by 1 / √D unless
    told otherwise. Gives ``[B, q, H·G, D]``, and no weights.

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

    One for all layers, or one for each kind of layer the config names.
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


def layer_windows(llm_config: Any) -> list[int | None] | None:
    """Attention window of each decoder layer (None: all that came before).

    None for a model that a dense cache does not describe: chunked, linear or shared layers.
    """
    config = llm_config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    shares = getattr(config, "kv_sharing_modes", None) or getattr(config, "num_kv_shared_layers", 0)
    if shares or getattr(config, "attention_chunk_size", None) is not None:
        return None
    if kinds is None:
        return [window] * config.num_hidden_layers
    known = {"full_attention": None, "sliding_attention": window}
    if not set(kinds) <= set(known):
        return None
    return [known[kind] for kind in kinds]


@dataclass
class Cursor:
    """Where the next forward pass writes: these rows, from this position on.

    A pass of a fixed size finds its position on the device, and reads all keys before ``bound``.
    """

    rows: slice
    length: int
    position: Tensor | None = None
    bound: int = 0


class DenseLayer(CacheLayerMixin):
    """Keys and values of one layer: two buffers ``[B, H, capacity, D]``, written in place."""

    is_croppable = False

    def __init__(self, cursor: Cursor, shape: tuple[int, int], window: int | None) -> None:
        super().__init__()
        self.cursor = cursor
        self.rows, self.capacity = shape
        self.window = window
        self.is_sliding = window is not None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate on the first write, when heads and widths are known."""
        # Zeros: a masked position must hold a number, for its weight of 0 times NaN is NaN.
        self.keys, self.values = (
            new.new_zeros(self.rows, new.shape[1], self.capacity, new.shape[3])
            for new in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write ``[b, H, q, D]`` at the cursor; return all that its queries may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, start = self.cursor.rows, self.cursor.length
        queries = key_states.shape[2]
        if self.cursor.position is not None:
            for buffer, new in ((self.keys, key_states), (self.values, value_states)):
                buffer[rows].index_copy_(2, self.cursor.position, new.to(buffer.dtype))
            seen = slice(0, self.cursor.bound)
        else:
            self.keys[rows, :, start : start + queries] = key_states
            self.values[rows, :, start : start + queries] = value_states
            if start == 0:
                return key_states, value_states
            length, offset = self.get_mask_sizes(queries)
            seen = slice(offset, offset + length)
        return self.keys[rows, :, seen], self.values[rows, :, seen]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Number of keys returned for this many queries, and the position of the first."""
        end = self.cursor.length + query_length
        if self.window is not None and query_length == 1:
            length = min(end, self.window)
            return length, end - length
        return end, 0

    def get_seq_length(self) -> int:
        """Positions written so far."""
        return self.cursor.length

    def get_max_length(self) -> int:
        """Positions there is room for."""
        return self.capacity

    def keep(self, rows: Tensor) -> None:
        """Move these rows (ascending) to the front, as far as they are written."""
        for buffer in (self.keys, self.values):
            written = buffer[:, :, : self.cursor.length]
            written[: len(rows)] = written.index_select(0, rows)


class DenseCache(Cache):
    """Cache of ``rows`` sequences that all have the same length at any time: no mask is needed.

    A forward pass reads and writes the rows of the cursor. It does not move the cursor: its caller
    does, with :meth:`advance`, so that captions can be tried on a prompt one after the other.
    """

    def __init__(self, windows: list[int | None], rows: int, capacity: int) -> None:
        self.windows, self.capacity = windows, capacity
        self.cursor = Cursor(slice(0, rows), 0)
        super().__init__([DenseLayer(self.cursor, (rows, capacity), window) for window in windows])

    @contextmanager
    def fixed(self, position: Tensor, bound: int) -> Iterator[None]:
        """Write at positions ``[q]`` that the device holds, and give all keys before ``bound``.

        What is recorded so can be replayed at other positions. The mask is the caller's.
        """
        self.cursor.position, self.cursor.bound = position, bound
        try:
            yield
        finally:
            self.cursor.position = None

    def advance(self, positions: int) -> None:
        """Count what the last forward pass wrote as written."""
        self.cursor.length += positions

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone (ascending row numbers)."""
        for layer in self.layers:
            layer.keep(rows)
        self.cursor.rows = slice(0, len(rows))
