"""Batches through an encoder, with the copies to and from a GPU beside its work, and the time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

#: batches that are on their way through a GPU: one at work, one whose input is being copied
_IN_FLIGHT = 2


@dataclass
class Overlap:
    """Runs the batches of a job and keeps account of what the encoder waited for.

    ``busy_s`` is the time in which the encoder had a batch, by the GPU's own clock on a GPU;
    ``decoding_s`` and ``writing_s`` are those in which the job's thread waited for frames and for
    the disk, in part while the encoder was busy.
    """

    device: torch.device
    clips: int = 0
    wall_s: float = 0.0
    busy_s: float = 0.0
    decoding_s: float = 0.0
    writing_s: float = 0.0
    _started: float = field(default_factory=time.perf_counter, repr=False)

    def encode(
        self, batches: Iterable[Tensor], encode: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Encoded batches in order, on the CPU, each with bool ``[B]``: its numbers are finite.

        On a GPU a batch is copied there on a stream of its own while the one before is at work, and
        results are copied back to pinned memory on a third; nothing waits for the whole device.

        Args:
            batches: ``[B, …]`` on the CPU, pinned for a GPU, not changed afterwards.
            encode: a batch on the device → ``[B, …]`` there.
        """
        start = _GpuLane(self.device).start if self.device.type == "cuda" else _on_cpu
        flying: deque[Callable[[], tuple[Tensor, Tensor, float]]] = deque()
        source = iter(batches)
        more, error = True, None
        while more:
            try:
                with self._waiting("decoding_s"):
                    batch = next(source, None)
                if batch is None:
                    more = False
                else:
                    flying.append(start(batch, encode))
            except BaseException as caught:  # raised below, after what is done already
                more, error = False, caught
            while flying and (not more or len(flying) >= _IN_FLIGHT):
                result, finite, seconds = flying.popleft()()
                self.busy_s += seconds
                self.clips += len(result)
                yield result, finite
        if error is not None:
            raise error

    @contextmanager
    def _waiting(self, counter: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, counter, getattr(self, counter) + time.perf_counter() - begun)

    def writing(self) -> Any:
        """A context whose time counts as waiting for the disk."""
        return self._waiting("writing_s")

    def finish(self) -> Overlap:
        """Stop the clock."""
        self.wall_s = time.perf_counter() - self._started
        return self

    @property
    def busy(self) -> float:
        """Share of the time in which the encoder had work, in [0, 1]."""
        return min(1.0, self.busy_s / self.wall_s) if self.wall_s else 0.0

    @property
    def bound(self) -> str:
        """What the job's speed depends on most: the encoder, decoding or the disk."""
        if self.busy >= 0.9:
            return "the encoder"
        return "decoding" if self.decoding_s >= self.writing_s else "the disk"

    def __str__(self) -> str:
        """One line for the log."""
        if not self.clips:
            return "no clip was left to encode"
        return (
            f"{self.clips} clips in {self.wall_s:.1f} s, {self.clips / self.wall_s:.1f} clips/s, "
            f"encoder busy {100 * self.busy:.0f} %, bound by {self.bound}"
        )


def _on_cpu(
    batch: Tensor, encode: Callable[[Tensor], Tensor]
) -> Callable[[], tuple[Tensor, Tensor, float]]:
    begun = time.perf_counter()
    result = encode(batch)
    seconds = time.perf_counter() - begun
    return lambda: (result, _finite(result), seconds)


class _GpuLane:
    """Three streams: inputs, work, results."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inward, self._outward = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def start(
        self, batch: Tensor, encode: Callable[[Tensor], Tensor]
    ) -> Callable[[], tuple[Tensor, Tensor, float]]:
        work = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._inward):
            moved = batch.to(self._device, non_blocking=True)
            arrived = self._inward.record_event()
        work.wait_event(arrived)
        moved.record_stream(work)
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record(work)
        encoded = encode(moved)
        finite = _finite(encoded)
        ended.record(work)
        self._outward.wait_event(ended)
        with torch.cuda.stream(self._outward):
            results = [_pinned_copy(tensor, self._outward) for tensor in (encoded, finite)]
            # A waiting thread that sleeps leaves its core to the decoders.
            done = torch.cuda.Event(blocking=True)
            done.record(self._outward)

        def result() -> tuple[Tensor, Tensor, float]:
            done.synchronize()
            return results[0], results[1], begun.elapsed_time(ended) / 1000

        return result


def _finite(encoded: Tensor) -> Tensor:
    return encoded.isfinite().flatten(1).all(dim=1)


def _pinned_copy(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    tensor.record_stream(stream)
    return copy
