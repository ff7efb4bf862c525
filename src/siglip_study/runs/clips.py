"""Clips with features and tokenised captions, in an order that no projector can influence."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.base.seeds import derived_seed

# ---- Reads batches ahead of their use and copies them to the GPU while it works on others.

Item = TypeVar("Item")
# Batches read ahead: one that is copied while another is read.
DEPTH = 2


@contextmanager
def prefetched(
    items: Iterable[Item],
    read: Callable[[Item], Tensor],
    device: torch.device,
    depth: int = DEPTH,
) -> Iterator[Iterator[Tensor]]:
    """``read(item)`` on ``device`` for each item, in order, read by a thread.

    To a GPU a batch goes through pinned memory on a stream of its own, so neither the CPU nor the
    GPU's other work waits for the copy. An exception of ``read`` is raised where its batch would
    be used. However the block is left, the thread has ended.

    Args:
        items: what ``read`` takes, a batch each.
        read: gives a tensor in the CPU's memory.
        device: where batches are used.
        depth: batches that wait at most.
    """
    room = threading.Semaphore(depth)
    stop = threading.Event()
    ready: queue.SimpleQueue[_Batch | BaseException | None] = queue.SimpleQueue()
    send = _sender(device)

    def fill() -> None:
        try:
            for item in items:
                room.acquire()
                if stop.is_set():
                    return
                ready.put(send(read(item)))
            ready.put(None)
        except BaseException as error:  # raised again in the thread that waits for the batch
            ready.put(error)

    def drain() -> Iterator[Tensor]:
        while (batch := ready.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            room.release()
            yield batch.use()

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        yield drain()
    finally:
        stop.set()
        room.release()
        thread.join()


class _Batch:
    """A tensor that may still be on its way."""

    def __init__(self, tensor: Tensor, arrived: torch.cuda.Event | None = None) -> None:
        self._tensor = tensor
        self._arrived = arrived

    def use(self) -> Tensor:
        """The tensor, for work queued from now on by the calling thread's stream."""
        if self._arrived is not None:
            stream = torch.cuda.current_stream(self._tensor.device)
            stream.wait_event(self._arrived)
            # Its memory belongs to the copying stream: not to be reused before this one is done.
            self._tensor.record_stream(stream)
        return self._tensor


def _sender(device: torch.device) -> Callable[[Tensor], _Batch]:
    if device.type != "cuda":
        return lambda tensor: _Batch(tensor.to(device))
    # Asked here: which device is current belongs to a thread.
    index = torch.cuda.current_device() if device.index is None else device.index
    stream = torch.cuda.Stream(index)

    def send(tensor: Tensor) -> _Batch:
        with torch.cuda.device(index), torch.cuda.stream(stream):
            there = tensor.pin_memory().to(f"cuda:{index}", non_blocking=True)
            return _Batch(there, stream.record_event())

    return send


class Features(Protocol):
    """Anything that gives ``[B, F, P, V]`` for ids: a FeatureStore, or noise in its place."""

    def batch(self, ids: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class Clips:
    """Ids, features and, per clip, one or more captions as token ids that end in EOS."""

    ids: tuple[str, ...]
    features: Features
    captions: tuple[tuple[tuple[int, ...], ...], ...]
    truncated: int

    def __len__(self) -> int:
        return len(self.ids)

    def caption(self, index: int, epoch: int, seed: int) -> tuple[int, ...]:
        """The caption of a clip in an epoch; several take turns, alike in every cell."""
        options = self.captions[index]
        first = derived_seed("caption", seed, self.ids[index])
        return options[(first + epoch) % len(options)]


def tokenize_captions(
    tokenizer: Any, captions: Sequence[Sequence[str]], eos: int, max_tokens: int
) -> tuple[tuple[tuple[tuple[int, ...], ...], ...], int]:
    """Caption texts → token ids with EOS, cut to ``max_tokens`` in all; and how many were cut.

    A cut caption loses its EOS: the model is not taught to stop where a human did not. A caption
    that spells a special token is tokenised as the characters it spells.
    """
    flat = [text for texts in captions for text in texts]
    encoded = iter(
        tokenizer(flat, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    )
    rows, cut = [], 0
    for texts in captions:
        options = []
        for _ in texts:
            ids = [*next(encoded), eos]
            cut += len(ids) > max_tokens
            options.append(tuple(ids[:max_tokens]))
        rows.append(tuple(options))
    return tuple(rows), cut


def epoch_order(n: int, seed: int, stage: int, epoch: int) -> list[int]:
    """The order of clips in an epoch: a permutation that depends on nothing else."""
    generator = np.random.default_rng(derived_seed("order", seed, stage, epoch))
    return [int(i) for i in generator.permutation(n)]


def derangement(n: int, *seed: object) -> list[int]:
    """A seeded permutation without fixed points: one long cycle (Sattolo 1986).

    Raises:
        StudyError: n < 2, where there is no other clip.
    """
    if n < 2:
        raise StudyError(f"found {n} clip in a split; expected at least 2 to exchange captions.")
    generator = np.random.default_rng(derived_seed("derangement", *seed))
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = int(generator.integers(0, i))
        order[i], order[j] = order[j], order[i]
    return order


class NoiseFeatures:
    """Gaussian noise in place of a clip's features, fixed per clip: a world that must fail.

    Its RMS is 1; training scales features by their RMS, so only the information is gone.
    """

    def __init__(self, features: Features) -> None:
        self._features = features

    def batch(self, ids: Sequence[str]) -> Tensor:
        real = self._features.batch(ids)
        noise = torch.empty(real.shape, dtype=torch.float32)
        for row, clip in enumerate(ids):
            generator = torch.Generator().manual_seed(derived_seed("noise", clip))
            noise[row].normal_(generator=generator)
        return noise.to(real.dtype)
