"""Greedy decoding of a batch: one loop that the device never has to wait for.

The host asks which rows have ended only now and then; a row that has ended is decoded on until
then, and what follows its end is cut off later.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from siglip_study.captioning.cache import DenseCache, can_group, causal_masks, grouped
from siglip_study.models.vlm import VisionLanguageModel

# ---- Captions in the making, and one greedy step of them.


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
        vocabulary = model.head.weight.shape[0] if limits.repetition_penalty != 1.0 else 0
        self.seen = torch.zeros(rows, vocabulary, dtype=torch.bool, device=device)
        self.choose(hidden)

    def choose(self, hidden: Tensor) -> None:
        """Take the likeliest next token after hidden states ``[B, L]``."""
        # Without the model's factor: neither the choice nor the penalty depends on it.
        logits = self.model.head(hidden).float()
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
        hidden: Tensor = self.model.backbone(
            inputs_embeds=self.model.embedding(self.last[:, None]),
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


# ---- Steps that are recorded as a CUDA graph and replayed.
#
# Thirty-six layers take Python longer than the GPU when prompts are short. A recorded step has
# fixed sizes: it attends to the cache up to a bound beyond its position, masked, and is recorded
# anew when the position reaches the bound or when rows leave.

_BOUND = 128  # bounds are multiples: a step reads at most that many positions in vain


class RecordedSteps:
    """Each step is replayed; on the CPU, which records nothing, the same step is simply run."""

    def __init__(self, batch: Batch, cache: DenseCache) -> None:
        """Raises ValueError for attention that a mask does not describe."""
        if not can_group(batch.model.causal_lm):
            raise ValueError("steps of attention with sinks or capped scores are not recorded")
        self.batch, self.cache = batch, cache
        self.config = batch.model.causal_lm.config
        self.position = torch.full((1,), cache.cursor.length, device=batch.last.device)
        self.graph: torch.cuda.CUDAGraph | None = None  # void when rows have left
        self.bound = 0

    def take(self) -> None:
        """Feed the last tokens, choose the next."""
        if self.cache.cursor.length >= self.bound:
            self.graph = None
            whole = -(-(self.cache.cursor.length + 1) // _BOUND) * _BOUND
            self.bound = min(whole, self.cache.capacity)
        if self.graph is not None:
            self.graph.replay()
            return
        # Taken outside any graph, a step readies the libraries that the recording then calls.
        self._step()
        if self.position.device.type == "cuda":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step()
            self.graph = graph

    def _step(self) -> None:
        masks = causal_masks(self.config, self.cache.windows, self.position, self.bound)
        fixed = self.cache.fixed(self.position, self.bound)
        with kernels(self.position.device, _READING), grouped(self.config), fixed:
            self.batch.feed(self.cache, self.position, masks)
        self.position.add_(1)


# ---- The loop.

_LEAVES = 0.25  # share of rows that must have ended before the others move together
# cuDNN reads keys fastest, but plans anew for every length: one step after the other, which sees a
# new one each time, is better without. Recorded steps see one for as long as a recording lives.
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
        hidden: Tensor = model.backbone(
            inputs_embeds=prompt, past_key_values=cache, use_cache=True
        ).last_hidden_state
    return hidden[:, -1].contiguous()


def decode(
    model: VisionLanguageModel, cache: DenseCache, hidden: Tensor, limits: Limits
) -> tuple[Tensor, int]:
    """Continue prompts in ``cache`` whose last hidden states are ``[B, L]``.

    Gives token ids ``[B, max_new_tokens]``, of which those after the first EOS mean nothing, and
    the number of forward passes.
    """
    device = hidden.device
    with kernels(device, _DECODING), autocast(model):
        batch = Batch(model, hidden, limits)
        recorded = RecordedSteps(batch, cache) if limits.graphs else None
        for done in range(1, limits.max_new_tokens):
            if done % looks(device) == 0:
                going = (~batch.done).nonzero()[:, 0]
                if len(going) == 0:
                    return batch.tokens, done - 1
                if len(going) <= (1 - _LEAVES) * len(batch.done):
                    cache.keep(going)
                    batch.keep(going)
                    if recorded is not None:
                        recorded.graph = None
            if recorded is not None:
                recorded.take()
            else:  # keys are read up to the position, without a mask
                batch.feed(cache, torch.full((1,), cache.cursor.length, device=device))
            cache.advance(1)
    return batch.tokens, limits.max_new_tokens - 1


def kernels(device: torch.device, order: list[SDPBackend]) -> AbstractContextManager[None]:
    """On a GPU, attention by the first of these kernels that applies."""
    return sdpa_kernel(order, set_priority=True) if device.type == "cuda" else nullcontext()


# ---- Captions of models whose layers a dense cache does not describe, through transformers' own.


def generate_through_transformers(
    model: VisionLanguageModel, prompt: Tensor, limits: Limits
) -> Tensor:
    """Greedy token ids ``[B, n <= max_new_tokens]`` after prompts ``[B, S, L]``."""
    with autocast(model):
        new: Tensor = model.llm.generate(  # type: ignore[operator]
            inputs_embeds=prompt,
            attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device),
            max_new_tokens=limits.max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=limits.repetition_penalty,
            eos_token_id=limits.eos,
            pad_token_id=model.layout.pad,
            # Explicit: a model's own generation config may sample or switch the cache off.
            use_cache=True,
            temperature=None,
            top_p=None,
            top_k=None,
        )
    return new
