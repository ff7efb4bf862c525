"""Clips with features and tokenised captions: their order, how they are read, and their losses."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.base.seeds import derived_seed
from siglip_study.models.vlm import VisionLanguageModel

log = logging.getLogger(__name__)

Item = TypeVar("Item")
#: Batches read ahead: one that is copied while another is read.
DEPTH = 2

# ---- Clips, in an order that no projector can influence.


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


# ---- Batches are read ahead of their use, and copied to the GPU while it works on others.


@contextmanager
def prefetched(
    items: Iterable[Item], read: Callable[[Item], Tensor], device: torch.device
) -> Iterator[Iterator[Tensor]]:
    """``read(item)`` on ``device`` for each item, in order, read by a thread.

    To a GPU a batch goes through pinned memory on a stream of its own, so neither the CPU nor the
    GPU's other work waits for the copy. An exception of ``read`` is raised where its batch would
    be used. However the block is left, the thread has ended.
    """
    room = threading.Semaphore(DEPTH)
    stop = threading.Event()
    ready: queue.SimpleQueue[Callable[[], Tensor] | BaseException | None] = queue.SimpleQueue()
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
        while (receive := ready.get()) is not None:
            if isinstance(receive, BaseException):
                raise receive
            room.release()
            yield receive()

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        yield drain()
    finally:
        stop.set()
        room.release()
        thread.join()


def _sender(device: torch.device) -> Callable[[Tensor], Callable[[], Tensor]]:
    """Starts copying a tensor to ``device``; what it returns gives it to the thread that asks."""
    if device.type != "cuda":
        return lambda tensor: lambda: tensor.to(device)
    # Asked here: which device is current belongs to a thread.
    index = torch.cuda.current_device() if device.index is None else device.index
    copying = torch.cuda.Stream(index)

    def send(tensor: Tensor) -> Callable[[], Tensor]:
        with torch.cuda.device(index), torch.cuda.stream(copying):
            there = tensor.pin_memory().to(f"cuda:{index}", non_blocking=True)
            arrived = copying.record_event()

        def receive() -> Tensor:
            stream = torch.cuda.current_stream(index)
            stream.wait_event(arrived)
            # Its memory belongs to the copying stream: not to be reused before this one is done.
            there.record_stream(stream)
            return there

        return receive

    return send


# ---- Losses of given captions, without training.


@torch.no_grad()
def caption_losses(
    model: VisionLanguageModel,
    features: Callable[[list[int]], Tensor],
    captions: list[tuple[int, ...]],
    batch: int,
    accelerator: Accelerator,
) -> tuple[list[float], list[int]]:
    """Summed loss (nats) and target tokens of each caption (token ids that end in EOS).

    ``features`` gives the videos' ``[B, F, P, V]`` for positions of captions, in a thread that
    reads ahead; at most ``batch`` captions of like length share a forward pass.
    """
    model.eval()
    if not captions:
        return [], []
    lengths = [len(caption) for caption in captions]
    passes = forward_passes(lengths, batch)
    losses: list[Tensor] = []
    try:
        with prefetched(passes, features, accelerator.device) as batches:
            for rows, videos in zip(passes, batches, strict=True):
                with accelerator.autocast():
                    losses.append(model.caption_loss(videos, [captions[i] for i in rows])[0])
    except torch.OutOfMemoryError:
        if batch == 1:
            raise
    if len(losses) < len(passes):
        log.info("no room for passes of %d clips; they are halved", batch)
        losses.clear()
        return caption_losses(model, features, captions, batch // 2, accelerator)
    # One transfer at the end: each would wait for the GPU.
    in_passes = torch.cat(losses).tolist()
    by_caption = dict(zip((i for rows in passes for i in rows), in_passes, strict=True))
    return [by_caption[i] for i in range(len(captions))], lengths


def forward_passes(lengths: Sequence[int], clips: int) -> list[list[int]]:
    """Positions of the clips of each forward pass of at most ``clips``.

    Several passes take the longest captions first: rows of one pass need little padding, and a GPU
    whose memory does not suffice says so at once. One pass keeps the order.
    """
    if len(lengths) <= clips:
        return [list(range(len(lengths)))]
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [longest_first[start : start + clips] for start in range(0, len(lengths), clips)]
