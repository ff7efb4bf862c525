"""Reads batches ahead of their use and copies them to the GPU while it works on others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

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
