"""Greedy decoding of a batch: one loop that the device never has to wait for.

The host asks which rows have ended only now and then; a row that has ended is decoded on until
then, and what follows its end is cut off later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from siglip_study.captioning.batch import Batch, Limits
from siglip_study.captioning.cache import DenseCache
from siglip_study.captioning.steps import PlainSteps, RecordedSteps
from siglip_study.models.vlm import VisionLanguageModel

_LEAVES = 0.25  # share of rows that must have ended before the others move together
# cuDNN is fastest on long prompts, but plans anew for every length: decoding is better without.
_DECODING = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_READING = [SDPBackend.CUDNN_ATTENTION, *_DECODING]


def autocast(model: VisionLanguageModel) -> torch.autocast:
    """Mixed precision where the LLM mixes: fp32 adapters on a bf16 or NF4 base."""
    device = model.feature_scale.device.type
    mixed = device == "cuda" and any(p.dtype == torch.float32 for p in model.llm.parameters())
    return torch.autocast(device, torch.bfloat16, enabled=mixed)


def looks(device: torch.device) -> int:
    """Steps between two looks at which rows have ended: asking a GPU means waiting for it."""
    return 16 if device.type == "cuda" else 1


def prefill(model: VisionLanguageModel, prompt: Tensor, cache: DenseCache) -> Tensor:
    """Read prompts ``[b, S, L]`` into the rows of the cursor → hidden states ``[b, L]`` at their
    last position. The cursor stays."""
    with kernels(prompt.device, _READING), autocast(model):
        hidden: Tensor = model._backbone(
            inputs_embeds=prompt, past_key_values=cache, use_cache=True
        ).last_hidden_state
    return hidden[:, -1].contiguous()


def decode(
    model: VisionLanguageModel, cache: DenseCache, hidden: Tensor, limits: Limits
) -> tuple[Tensor, int]:
    """Continue prompts in ``cache`` whose last hidden states are ``[B, L]``.

    Returns:
        token ids ``[B, max_new_tokens]``, of which those after the first EOS mean nothing; and the
        number of forward passes.
    """
    device = hidden.device
    with kernels(device, _DECODING), autocast(model):
        batch = Batch(model, hidden, limits)
        steps = (RecordedSteps if limits.graphs else PlainSteps)(batch, cache)
        for done in range(1, limits.max_new_tokens):
            if done % looks(device) == 0:
                going = (~batch.done).nonzero()[:, 0]
                if len(going) == 0:
                    return batch.tokens, done - 1
                if len(going) <= (1 - _LEAVES) * len(batch.done):
                    cache.keep(going)
                    batch.keep(going)
                    steps.rows_changed()
            steps.take()
            cache.advance(1)
    return batch.tokens, limits.max_new_tokens - 1


@contextmanager
def kernels(device: torch.device, order: list[SDPBackend]) -> Iterator[None]:
    """On a GPU, attention by the first of these kernels that applies."""
    if device.type != "cuda":
        yield
        return
    with sdpa_kernel(order, set_priority=True):
        yield
