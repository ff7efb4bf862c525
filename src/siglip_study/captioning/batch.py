"""Captions in the making, and one greedy step of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from siglip_study.captioning.cache import DenseCache
from siglip_study.models.vlm import VisionLanguageModel


@dataclass(frozen=True)
class Limits:
    """When a caption ends, and how it is made.

    ``repetition_penalty`` discourages tokens the caption has already (1: not at all); ``graphs``
    has a GPU replay recorded steps, so that it does not wait for Python.
    """

    eos: int
    max_new_tokens: int
    repetition_penalty: float = 1.0
    graphs: bool = False


class Batch:
    """Captions in the making: what each step reads and writes, all of it on the device."""

    def __init__(self, model: VisionLanguageModel, hidden: Tensor, limits: Limits) -> None:
        rows, device = len(hidden), hidden.device
        self.model, self.limits = model, limits
        self.tokens = torch.full((rows, limits.max_new_tokens), limits.eos, device=device)
        self.step = torch.zeros(1, dtype=torch.long, device=device)
        self.row = torch.arange(rows, device=device)  # of ``tokens``, for each row still decoded
        self.last = torch.zeros(rows, dtype=torch.long, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        vocabulary = model._head.weight.shape[0] if limits.repetition_penalty != 1.0 else 0
        self.seen = torch.zeros(rows, vocabulary, dtype=torch.bool, device=device)
        self.choose(hidden)

    def choose(self, hidden: Tensor) -> None:
        """Take the likeliest next token after hidden states ``[B, L]``."""
        logits = self.model._head(hidden).float()
        factor = self.limits.repetition_penalty
        if factor != 1.0:  # Keskar et al. 2019, section 4.1
            discouraged = torch.where(logits < 0, logits * factor, logits / factor)
            logits = torch.where(self.seen, discouraged, logits)
        self.last.copy_(logits.argmax(dim=-1))
        if factor != 1.0:
            self.seen.scatter_(1, self.last[:, None], True)
        self.tokens.index_put_((self.row, self.step.expand_as(self.row)), self.last)
        self.done.logical_or_(self.last == self.limits.eos)
        self.step.add_(1)

    def feed(self, cache: DenseCache, position: Tensor, mask: Tensor | dict | None = None) -> None:
        """Read the last tokens at ``position`` ``[1]`` and choose the next ones."""
        hidden: Tensor = self.model._backbone(
            inputs_embeds=self.model._embedding(self.last[:, None]),
            attention_mask=mask,
            position_ids=position[None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        self.choose(hidden[:, -1])

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self.row, self.last, self.done, self.seen = (
            tensor[rows] for tensor in (self.row, self.last, self.done, self.seen)
        )
