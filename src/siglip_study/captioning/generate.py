"""Captions of clips: batches filled to memory, prompts read in chunks, decoded together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from siglip_study.captioning import memory
from siglip_study.models.devices import free_bytes
from siglip_study.models.vlm import VisionLanguageModel

FeatureBatch = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Caption:
    """A generated caption; ``truncated`` when the token budget ended it before EOS did."""

    text: str
    n_tokens: int
    truncated: bool


@dataclass
class Timings:
    """Where the time of captioning goes; handed in by who wants to know, which costs waiting."""

    prefill_s: float = 0.0
    decode_s: float = 0.0
    prompt_tokens: int = 0
    steps: int = 0
    batches: int = 0


@torch.no_grad()
def generate_captions(
    model: VisionLanguageModel,
    tokenizer: Any,
    ids: Sequence[str],
    features: FeatureBatch,
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
    from siglip_study.captioning.attention import can_group
    from siglip_study.captioning.batch import Limits
    from siglip_study.captioning.cache import layer_windows

    if not ids:
        return []
    model.eval()
    if graphs is None:
        graphs = model.feature_scale.device.type == "cuda" and can_group(model._causal_lm)
    limits = Limits(model.layout.eos, max_new_tokens, repetition_penalty, graphs)
    windows = layer_windows(model._causal_lm.config)
    length = model.prompt_length(features(ids[:1]))
    most = _batch_rows(model, length, max_new_tokens, batch_size, memory_gb)
    sizes = memory.split_evenly(len(ids), most) if batch_size is None else None
    captions: list[Caption] = []
    while len(captions) < len(ids):
        size = most if sizes is None else sizes.pop()
        chosen = list(ids[len(captions) : len(captions) + size])
        if windows is None:
            from siglip_study.captioning.hybrid import generate

            tokens = generate(model, embed_prompts(model, features(chosen)), limits)
        else:
            tokens = _dense(model, chosen, features, length, windows, limits, timings)
        captions += [finish(row, limits.eos, tokenizer) for row in tokens.tolist()]
    return captions


def _dense(
    model: VisionLanguageModel,
    ids: list[str],
    features: FeatureBatch,
    length: int,
    windows: list[int | None],
    limits: Any,
    timings: Timings | None,
) -> Tensor:
    """Token ids ``[B, max_new_tokens]`` of one batch."""
    from siglip_study.captioning.cache import DenseCache
    from siglip_study.captioning.decoding import decode, prefill

    # A multiple of 8: masks of other lengths are copied before every attention.
    capacity = -(-(length + limits.max_new_tokens) // 8) * 8
    cache = DenseCache(windows, len(ids), capacity)
    began = _now(timings)
    hidden = []
    chunk = memory.prefill_rows(length)
    for start in range(0, len(ids), chunk):
        rows = slice(start, min(start + chunk, len(ids)))
        prompt = embed_prompts(model, features(ids[rows]))
        with cache.at(rows, 0):
            hidden.append(prefill(model, prompt, cache))
    cache.advance(length)
    read = _now(timings)
    tokens, steps = decode(model, cache, torch.cat(hidden), limits)
    if timings is not None:
        timings.prefill_s += read - began
        timings.decode_s += _now(timings) - read
        timings.prompt_tokens += len(ids) * length
        timings.steps += steps
        timings.batches += 1
    return tokens


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
        return batch_size or memory.CPU_ROWS
    config = model._causal_lm.config
    itemsize = model._embedding.weight.dtype.itemsize
    fit = memory.rows_that_fit(
        free_bytes(device, memory_gb),
        memory.row_bytes(config, length + max_new_tokens, itemsize),
        memory.prefill_bytes(config, length, itemsize),
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
