"""Greedy decoding of a batch: one loop that the device never has to wait for.

The host asks which rows have ended only now and then; a row that has ended is decoded on until
then, and what follows its end is cut off later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from siglip_study.captioning.cache import DenseCache
from siglip_study.vlm import VisionLanguageModel

_LEAVES = 0.25  # share of rows that must have ended before the others move together
# cuDNN is fastest on long prompts, but plans anew for every length: decoding is better without.
_DECODING = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_READING = [SDPBackend.CUDNN_ATTENTION, *_DECODING]


@dataclass(frozen=True)
class Limits:
    """When a caption ends, and how much a token it already has is discouraged (1: not at all)."""

    eos: int
    max_new_tokens: int
    repetition_penalty: float = 1.0


def autocast(model: VisionLanguageModel) -> torch.autocast:
    """Mixed precision where the LLM mixes: fp32 adapters on a bf16 or NF4 base."""
    device = model.feature_scale.device.type
    mixed = device == "cuda" and any(p.dtype == torch.float32 for p in model.llm.parameters())
    return torch.autocast(device, torch.bfloat16, enabled=mixed)


def prefill(model: VisionLanguageModel, prompt: Tensor, cache: DenseCache) -> Tensor:
    """Read prompts ``[b, S, L]`` into the rows of the cursor → hidden states ``[b, L]`` at their
    last position. The cursor stays."""
    with autocast(model), _kernels(prompt.device, _READING):
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
    rows = len(hidden)
    tokens = torch.full((rows, limits.max_new_tokens), limits.eos, device=device)
    place = torch.arange(rows, device=device)
    done = torch.zeros(rows, dtype=torch.bool, device=device)
    penalty = _Penalty(limits.repetition_penalty)
    interval = looks(device)
    step = 0
    with _kernels(device, _DECODING), autocast(model):
        while True:
            chosen = penalty(model._head(hidden).float()).argmax(dim=-1)
            tokens[place, step] = chosen
            done |= chosen == limits.eos
            step += 1
            if step == limits.max_new_tokens:
                break
            if step % interval == 0:
                going = (~done).nonzero()[:, 0]
                if len(going) == 0:
                    break
                if len(going) <= (1 - _LEAVES) * len(done):
                    cache.keep(going)
                    penalty.keep(going)
                    place, done, chosen = place[going], done[going], chosen[going]
            hidden = _next_hidden(model, cache, chosen)
    return tokens, step - 1


def looks(device: torch.device) -> int:
    """Steps between two looks at which rows have ended: asking a GPU means waiting for it."""
    return 16 if device.type == "cuda" else 1


def _next_hidden(model: VisionLanguageModel, cache: DenseCache, chosen: Tensor) -> Tensor:
    """Feed one token a row, ``[B]`` → hidden states ``[B, L]``."""
    position = torch.full((1, 1), cache.cursor.length, device=chosen.device)
    hidden: Tensor = model._backbone(
        inputs_embeds=model._embedding(chosen[:, None]),
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    cache.advance(1)
    return hidden[:, -1]


class _Penalty:
    """Repetition penalty (Keskar et al. 2019, section 4.1) over the tokens of the caption so far.

    The logit of a token that was seen is divided by the factor if positive, multiplied if negative.
    The token itself is remembered at the next call's expense: the argmax of what is returned.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.seen: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        if self.factor == 1.0:
            return logits
        if self.seen is None:
            self.seen = torch.zeros_like(logits, dtype=torch.bool)
        discouraged = torch.where(logits < 0, logits * self.factor, logits / self.factor)
        logits = torch.where(self.seen, discouraged, logits)
        self.seen.scatter_(1, logits.argmax(dim=-1, keepdim=True), True)
        return logits

    def keep(self, rows: Tensor) -> None:
        if self.seen is not None:
            self.seen = self.seen[rows]


@contextmanager
def _kernels(device: torch.device, kernels: list[SDPBackend]) -> Iterator[None]:
    """On a GPU, attention by the first of these kernels that applies."""
    if device.type != "cuda":
        yield
        return
    with sdpa_kernel(kernels, set_priority=True):
        yield
