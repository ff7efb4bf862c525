"""How a decoding step is run: as it comes, or recorded as a CUDA graph and replayed.

Thirty-six layers take Python longer than the GPU when prompts are short. A recorded step has fixed
sizes: it attends to the cache up to a bound beyond its position, masked, and is recorded anew when
the position reaches the bound or when rows leave.
"""

from __future__ import annotations

import torch

from siglip_study.captioning.attention import can_group, causal_masks, grouped
from siglip_study.captioning.batch import Batch
from siglip_study.captioning.cache import DenseCache

_BOUND = 128  # bounds are multiples: a step reads at most that many positions in vain


class PlainSteps:
    """Each step goes through Python; keys are read up to the position, without a mask."""

    def __init__(self, batch: Batch, cache: DenseCache) -> None:
        self.batch, self.cache = batch, cache

    def take(self) -> None:
        """Feed the last tokens, choose the next."""
        length = self.cache.cursor.length
        self.batch.feed(self.cache, torch.full((1,), length, device=self.batch.last.device))

    def rows_changed(self) -> None:
        """Rows have left the batch and the cache."""


class RecordedSteps:
    """Each step is replayed; on the CPU, which records nothing, the same step is simply run."""

    def __init__(self, batch: Batch, cache: DenseCache) -> None:
        """Raises ValueError for attention that a mask does not describe."""
        if not can_group(batch.model._causal_lm):
            raise ValueError("steps of attention with sinks or capped scores are not recorded")
        self.batch, self.cache = batch, cache
        self.config = batch.model._causal_lm.config
        self.position = torch.full((1,), cache.cursor.length, device=batch.last.device)
        self.graph: torch.cuda.CUDAGraph | None = None
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

    def rows_changed(self) -> None:
        """Rows have left the batch and the cache: what was recorded is void."""
        self.graph = None

    def _step(self) -> None:
        masks = causal_masks(self.config, self.cache.windows, self.position, self.bound)
        with grouped(self.config), self.cache.fixed(self.position, self.bound):
            self.batch.feed(self.cache, self.position, masks)
        self.position.add_(1)
