"""How many captions are decoded together: as many as their keys and values find room for."""

from __future__ import annotations

import math
from typing import Any

from siglip_study.models.devices import USABLE

CPU_ROWS = 32
PREFILL_TOKENS = 16384
"""Prompt positions in one forward pass: enough to fill a GPU, few enough for its activations."""


def prefill_rows(prompt_length: int) -> int:
    """Prompts read in one forward pass."""
    return max(1, PREFILL_TOKENS // prompt_length)


def row_bytes(llm_config: Any, length: int, itemsize: int) -> int:
    """Bytes a caption needs while it is decoded.

    Args:
        llm_config: the LLM's config.
        length: positions of prompt and caption.
        itemsize: bytes of a key's element.
    """
    config = llm_config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layer = 2 * heads * width * length * itemsize
    # Rows that stay are copied, keys or values of one layer at a time; logits and their copies
    # are fp32.
    return config.num_hidden_layers * layer + layer // 2 + 32 * config.vocab_size


def prefill_bytes(llm_config: Any, prompt_length: int, itemsize: int) -> int:
    """Bytes of activations of the largest forward pass over prompts."""
    config = llm_config.get_text_config()
    tokens = prefill_rows(prompt_length) * prompt_length
    return tokens * (10 * config.hidden_size + 4 * config.intermediate_size) * itemsize


def rows_that_fit(free: int, a_row: int, reserve: int) -> int:
    """Rows of ``a_row`` bytes in ``free`` bytes less ``reserve``; at least one is tried."""
    return max(1, int((free * USABLE - reserve) // a_row))


def split_evenly(n: int, most: int) -> list[int]:
    """``n`` clips in as few batches of at most ``most`` as possible, of nearly equal size."""
    batches = math.ceil(n / most)
    return [n // batches + (i < n % batches) for i in range(batches)]
