"""Captions of clips: batches filled to memory, prompts read in chunks, decoded together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from siglip_study.captioning.cache import DenseCache, can_group, layer_windows
from siglip_study.captioning.decoding import (
    Limits,
    decode,
    generate_through_transformers,
    prefill,
)
from siglip_study.models.devices import USABLE, free_bytes
from siglip_study.models.vlm import VisionLanguageModel

# ---- How many captions are decoded together: as many as their keys and values find room for.

CPU_ROWS = 32
PREFILL_TOKENS = 16384
"""Prompt positions in one forward pass: enough to fill a GPU, few enough for its activations."""


def prefill_rows(prompt_length: int) -> int:
    """Prompts read in one forward pass."""
    return max(1, PREFILL_TOKENS // prompt_length)


def row_bytes(llm_config: Any, length: int, itemsize: int) -> int:
    """Bytes that a caption of ``length`` positions, its prompt's included, needs in decoding.

    ``itemsize``: bytes of a key's element.
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


@dataclass(frozen=True)
class Caption:
    """A generated caption; ``truncated`` when the token budget ended it before EOS did."""

    text: str
    n_tokens: int
    truncated: bool

    def __str__(self) -> str:
        return self.text


@dataclass
class Timings:
    """Where the time of captioning goes; handed in by who wants to know, which costs waiting."""

    prefill_s: float = 0.0
    decode_s: float = 0.0
    steps: int = 0


@torch.no_grad()
def generate_captions(
    model: VisionLanguageModel,
    tokenizer: Any,
    ids: Sequence[str],
    features: Callable[[Sequence[str]], Tensor],
    *,
    max_new_tokens: int,
    batch_size: int | None = None,
    repetition_penalty: float = 1.0,
    memory_gb: float | None = None,
    graphs: bool | None = None,
    timings: Timings | None = None,
) -> list[Caption]:
    """Caption clips greedily, in the order of ``ids``.

    All prompts have the same length (template + video tokens), so a batch needs no padding and a
    caption does not depend on its neighbours beyond rounding. ``n_tokens`` counts EOS.

    Args:
        model: projector and LLM; its weights are left as they are.
        tokenizer: turns token ids into text.
        ids: clips to caption.
        features: gives ``[B, F, P, V]`` for ids.
        max_new_tokens: budget of a caption, EOS included.
        batch_size: most clips decoded together; null: as many as memory holds.
        repetition_penalty: 1 is off; a token of the prompt is never penalised.
        memory_gb: GPU memory (GiB) the job may fill; null: what is free.
        graphs: record decoding steps and replay them; null: on a GPU, where the model's attention
            can be recorded. ValueError for a model whose attention cannot.
        timings: filled with seconds and counts if given.
    """
    if not ids:
        return []
    model.eval()
    if graphs is None:
        graphs = model.feature_scale.device.type == "cuda" and can_group(model.causal_lm)
    limits = Limits(model.layout.eos, max_new_tokens, repetition_penalty, graphs)
    windows = layer_windows(model.causal_lm.config)
    length = model.prompt_length(features(ids[:1]))
    # A multiple of 8: masks of other lengths are copied before every attention.
    capacity = -(-(length + max_new_tokens) // 8) * 8
    chunk = prefill_rows(length)
    most = _batch_rows(model, length, max_new_tokens, batch_size, memory_gb)
    sizes = split_evenly(len(ids), most) if batch_size is None else None
    captions: list[Caption] = []
    while len(captions) < len(ids):
        size = most if sizes is None else sizes.pop()
        chosen = ids[len(captions) : len(captions) + size]
        if windows is None:
            prompt = embed_prompts(model, features(chosen))
            tokens = generate_through_transformers(model, prompt, limits)
        else:
            # Read the prompts of the batch, chunk by chunk; then decode them together.
            began = _now(timings)
            cache = DenseCache(windows, len(chosen), capacity)
            hidden = []
            for start in range(0, len(chosen), chunk):
                rows = slice(start, min(start + chunk, len(chosen)))
                cache.cursor.rows = rows
                hidden.append(prefill(model, embed_prompts(model, features(chosen[rows])), cache))
            cache.cursor.rows = slice(0, len(chosen))
            cache.advance(length)
            read = _now(timings)
            tokens, steps = decode(model, cache, torch.cat(hidden), limits)
            if timings is not None:
                timings.prefill_s += read - began
                timings.decode_s += _now(timings) - read
                timings.steps += steps
        captions += [finish(row, limits.eos, tokenizer) for row in tokens.tolist()]
    return captions


def embed_prompts(model: VisionLanguageModel, features: Tensor) -> Tensor:
    """``[B, F, P, V]`` on any device → prompts ``[B, S, L]``; the projector works in bf16 on a
    GPU, as in training."""
    device = model.feature_scale.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return model.prompt_embeddings(features.to(device, non_blocking=True))


def _batch_rows(
    model: VisionLanguageModel,
    length: int,
    max_new_tokens: int,
    batch_size: int | None,
    memory_gb: float | None,
) -> int:
    """Clips decoded together."""
    device = model.feature_scale.device
    if device.type != "cuda":
        return batch_size or CPU_ROWS
    config = model.causal_lm.config
    itemsize = model.embedding.weight.dtype.itemsize
    fit = rows_that_fit(
        free_bytes(device, memory_gb),
        row_bytes(config, length + max_new_tokens, itemsize),
        prefill_bytes(config, length, itemsize),
    )
    return fit if batch_size is None else min(batch_size, fit)


def _now(timings: Timings | None) -> float:
    if timings is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def finish(row: list[int], eos: int, tokenizer: Any) -> Caption:
    """Cut at EOS; without one the budget ended the caption."""
    ended = eos in row
    kept = row[: row.index(eos)] if ended else row
    text = tokenizer.decode(kept, skip_special_tokens=True).strip()
    return Caption(text, len(kept) + ended, not ended)
