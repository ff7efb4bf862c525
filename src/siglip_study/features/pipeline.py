"""Decoding, encoding and writing at once: clips are read ahead by threads, in order, bounded."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from siglip_study.base.errors import ClipError, StudyError
from siglip_study.features.store import write_frame_embeddings
from siglip_study.features.writer import FeatureWriter

if TYPE_CHECKING:
    import polars as pl

    from siglip_study.data.decoding import Decoder
    from siglip_study.features.scorer import Scorer
    from siglip_study.features.towers import VisionEncoder

log = logging.getLogger(__name__)


# ---- Frames read ahead by threads.


def stream_frames(
    clips: Sequence[tuple[str, Path]],
    decoder: Decoder,
    prepare: Any,
    n_frames: int,
    batches: Sequence[int],
    workers: int,
    pin: bool = False,
) -> Iterator[Tensor]:
    """Decoded and prepared batches, uint8 ``[B, F, h, w, 3]``, in the order of ``clips``.

    While the consumer works on a batch, the next one is being decoded; no more than one batch and
    one clip a worker wait in memory. Workers write a clip where it lies in its batch.

    Args:
        clips: (id, path) of each clip.
        decoder: reads a clip.
        prepare: ``[F, H, W, 3]`` → ``[F, h, w, 3]``, the same size for every clip.
        n_frames: frames a clip.
        batches: how many clips each batch has; they sum to the number of clips.
        workers: decoding threads; 0: one a core. Decoders work outside Python's lock.
        pin: whether the batches lie in page-locked memory, from which a GPU copies by itself.

    Raises:
        StudyError: a clip cannot be read, or ``prepare`` gives it another size; it is named.
    """
    count = workers or len(os.sched_getaffinity(0))
    ahead = max(batches, default=0) + count
    waiting: deque[Future[None]] = deque()
    places = [(batch, row) for batch, size in enumerate(batches) for row in range(size)]
    pending = iter(zip(clips, places, strict=True))
    buffers: dict[int, Tensor] = {}
    lock = threading.Lock()

    def load(clip: tuple[str, Path], batch: int, row: int) -> None:
        try:
            frames = prepare(decoder.read(clip[1], n_frames))
        except ClipError as error:
            raise StudyError(
                f"clip '{clip[0]}' ({clip[1]}) cannot be read any more: {error}; "
                "expected the file that the manifest was made from."
            ) from error
        with lock:
            if batch not in buffers:
                shape = (batches[batch], *frames.shape)
                buffers[batch] = torch.empty(shape, dtype=torch.uint8, pin_memory=pin)
            target = buffers[batch].numpy()[row]
        if frames.shape != target.shape:
            raise StudyError(
                f"clip '{clip[0]}': prepared frames are {frames.shape}; expected {target.shape} "
                "as of the other clips."
            )
        target[...] = frames

    def read_ahead() -> None:
        while len(waiting) < ahead and (following := next(pending, None)) is not None:
            clip, (batch, row) = following
            waiting.append(threads.submit(load, clip, batch, row))

    threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
    try:
        for batch, size in enumerate(batches):
            for _ in range(size):
                read_ahead()
                waiting.popleft().result()
            read_ahead()
            with lock:
                ready = buffers.pop(batch)
            yield ready
            del ready
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


# ---- Batches through an encoder, with the copies to and from a GPU beside its work, and the time.

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


# ---- A split's clips → its files.


def encode_split(
    rows: pl.DataFrame | Mapping[str, Sequence[str]],
    root: str | Path,
    decoder: Decoder,
    encoder: VisionEncoder,
    n_frames: int,
    batch_clips: int,
    workers: int,
    shard_clips: int,
    folder: str | Path,
    resume_folder: str | Path,
) -> None:
    """Encode the clips of one split into a feature folder (see ``features/store.py``).

    Of the manifest's ``rows``, in order, the columns id, path and sha256 are used; ``n_frames`` are
    uniform in time; ``workers`` are decoding threads, 0: one a core; finished shards of a killed
    call are found in ``resume_folder``.

    Raises:
        StudyError: a clip cannot be read any more, or its features are not finite.
    """
    ids, facts = list(rows["id"]), {**encoder.facts, "frames": n_frames, "decoder": decoder.name}
    paths, overlap = _paths(rows, root), Overlap(encoder.device)
    with FeatureWriter(
        folder, resume_folder, ids, shard_clips, facts, list(rows["sha256"])
    ) as writer:
        # Batches do not cross shards: a resumed job forms the same ones.
        stream = stream_frames(
            [(clip, paths[clip]) for shard in writer.todo for clip in shard],
            decoder,
            encoder.prepare,
            n_frames,
            [size for shard in writer.todo for size in _sizes(len(shard), batch_clips)],
            workers,
            pin=encoder.device.type == "cuda",
        )
        with closing(stream):  # type: ignore[type-var]
            for features, finite in overlap.encode(stream, encoder.encode_on_device):
                with overlap.writing():
                    writer.put(features, finite)
        with overlap.writing():
            writer.close()
    log.info("%s: %s", Path(folder).name, overlap.finish())


def embed_split(
    rows: pl.DataFrame | Mapping[str, Sequence[str]],
    root: str | Path,
    decoder: Decoder,
    scorer: Scorer,
    n_frames: int,
    batch_clips: int,
    workers: int,
    path: str | Path,
) -> None:
    """Write the scorer's frame embeddings of one split (see ``features/store.py``).

    Args and errors as in :func:`encode_split`; ``path`` is the safetensors file.
    """
    ids, paths = list(rows["id"]), _paths(rows, root)
    overlap, parts = Overlap(scorer.device), []
    stream = stream_frames(
        [(clip, paths[clip]) for clip in ids],
        decoder,
        scorer.prepare,
        n_frames,
        _sizes(len(ids), batch_clips),
        workers,
        pin=scorer.device.type == "cuda",
    )
    with closing(stream):  # type: ignore[type-var]
        for embeddings, _ in overlap.encode(stream, scorer.image_embeddings_on_device):
            parts.append(embeddings.float())
    facts = {**scorer.facts, "frames": n_frames, "decoder": decoder.name}
    write_frame_embeddings(path, ids, torch.cat(parts), facts)
    log.info("%s: %s", Path(path).name, overlap.finish())


def _paths(rows: pl.DataFrame | Mapping[str, Sequence[str]], root: str | Path) -> dict[str, Path]:
    return {clip: Path(root) / path for clip, path in zip(rows["id"], rows["path"], strict=True)}


def _sizes(n: int, batch: int) -> list[int]:
    return [min(batch, n - start) for start in range(0, n, batch)]
