"""Decoding, encoding and writing at once: clips are read ahead by threads, in order, bounded."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from siglip_study.base.errors import ClipError, StudyError
from siglip_study.data.clips import ClipFile, clip_files
from siglip_study.features.store import FeatureWriter, write_frame_embeddings

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from siglip_study.features.towers import FrameEncoder

    #: how a clip is read: ``[n, H, W, 3]``, as by ``data.decoding.read_frames``
    Read = Callable[[ClipFile, int], NDArray[np.uint8]]
log = logging.getLogger(__name__)

#: a batch on a device → its features ``[B, …]`` there
Encode = Callable[[Tensor], Tensor]
#: features on the CPU, bool ``[B]``: a clip's numbers are finite, and seconds of the encoder
Encoded = tuple[Tensor, Tensor, float]


# ---- Frames read ahead by threads.


def stream_frames(
    clips: Sequence[tuple[str, ClipFile]],
    read: Read,
    prepare: Any,
    n_frames: int,
    batches: Sequence[int],
    workers: int,
    pin: bool = False,
) -> Generator[Tensor]:
    """Decoded and prepared batches, uint8 ``[B, F, h, w, 3]``, in the order of ``clips``.

    While the consumer works on a batch, the next one is being decoded; no more than one batch and
    one clip a worker wait in memory. Workers write a clip where it lies in its batch.

    Args:
        clips: (id, file) of each clip.
        read: reads a clip.
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

    def load(clip: tuple[str, ClipFile], batch: int, row: int) -> None:
        try:
            frames = prepare(read(clip[1], n_frames))
        except ClipError as error:
            raise StudyError(
                f"clip '{clip[0]}' ({clip[1].path}) cannot be read any more: {error}; "
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

    def encode(self, batches: Iterable[Tensor], encode: Encode) -> Iterator[tuple[Tensor, Tensor]]:
        """Encoded batches in order, on the CPU, each with bool ``[B]``: its numbers are finite.

        ``batches`` lie on the CPU, pinned for a GPU, not changed afterwards. There each is copied
        on a stream of its own while the one before is at work, and results come back to pinned
        memory on a third; nothing waits for the whole device.
        """
        start = _on_gpu(self.device) if self.device.type == "cuda" else _on_cpu
        flying: deque[Callable[[], Encoded]] = deque()
        source, error = iter(batches), None
        more = True
        while more:
            try:
                with self._waiting("decoding_s"):
                    batch = next(source, None)
                more = batch is not None
                if batch is not None:
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


def _on_cpu(batch: Tensor, encode: Encode) -> Callable[[], Encoded]:
    begun = time.perf_counter()
    result = encode(batch)
    seconds = time.perf_counter() - begun
    return lambda: (result, _finite(result), seconds)


def _on_gpu(device: torch.device) -> Callable[[Tensor, Encode], Callable[[], Encoded]]:
    """Three streams: inputs, work, results."""
    inward, outward = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def start(batch: Tensor, encode: Encode) -> Callable[[], Encoded]:
        work = torch.cuda.current_stream(device)
        with torch.cuda.stream(inward):
            moved = batch.to(device, non_blocking=True)
            arrived = inward.record_event()
        work.wait_event(arrived)
        moved.record_stream(work)
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record(work)
        encoded = encode(moved)
        finite = _finite(encoded)
        ended.record(work)
        outward.wait_event(ended)
        with torch.cuda.stream(outward):
            features, numbers = (_pinned_copy(tensor, outward) for tensor in (encoded, finite))
            # A waiting thread that sleeps leaves its core to the decoders.
            done = torch.cuda.Event(blocking=True)
            done.record(outward)

        def result() -> Encoded:
            done.synchronize()
            return features, numbers, begun.elapsed_time(ended) / 1000

        return result

    return start


def _finite(encoded: Tensor) -> Tensor:
    return encoded.isfinite().flatten(1).all(dim=1)


def _pinned_copy(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    tensor.record_stream(stream)
    return copy


# ---- A split's clips → its files.


def encode_split(
    rows: pl.DataFrame,
    root: Path,
    read: Read,
    encoder: FrameEncoder,
    n_frames: int,
    batch_clips: int,
    workers: int,
    shard_clips: int,
    folder: Path,
    resume_folder: Path,
) -> None:
    """Encode the clips of one split into a feature folder (see ``features/store.py``).

    The manifest's ``rows`` are encoded in order, ``n_frames`` uniform in time of each; ``read``
    reads a clip; ``workers`` are decoding threads, 0: one a core; finished shards of a killed call
    are found in ``resume_folder``.

    Raises:
        StudyError: a clip cannot be read any more, or its features are not finite.
    """
    files, facts = clip_files(rows, root), {**encoder.facts, "frames": n_frames}
    overlap = Overlap(encoder.device)
    plan = (list(files), shard_clips, facts, _sources(rows))
    with FeatureWriter(folder, resume_folder, *plan) as writer:
        # Batches do not cross shards: a resumed job forms the same ones.
        clips = [(clip, files[clip]) for shard in writer.todo for clip in shard]
        sizes = [size for shard in writer.todo for size in _sizes(len(shard), batch_clips)]
        stream = _encoded(clips, read, encoder, n_frames, sizes, workers, overlap)
        with closing(stream):
            for features, finite in stream:
                with overlap.writing():
                    writer.put(features, finite)
        with overlap.writing():
            writer.close()
    log.info("%s: %s", folder.name, overlap.finish())


def embed_split(
    rows: pl.DataFrame,
    root: Path,
    read: Read,
    scorer: FrameEncoder,
    n_frames: int,
    batch_clips: int,
    workers: int,
    path: Path,
) -> None:
    """Write the scorer's frame embeddings of one split (see ``features/store.py``).

    Args and errors as in :func:`encode_split`; ``path`` is the safetensors file.
    """
    clips, overlap = list(clip_files(rows, root).items()), Overlap(scorer.device)
    sizes = _sizes(len(clips), batch_clips)
    stream = _encoded(clips, read, scorer, n_frames, sizes, workers, overlap)
    with closing(stream):
        embeddings = torch.cat([part.float() for part, _ in stream])
    facts = {**scorer.facts, "frames": n_frames}
    write_frame_embeddings(path, list(rows["id"]), embeddings, facts)
    log.info("%s: %s", path.name, overlap.finish())


def _encoded(
    clips: Sequence[tuple[str, ClipFile]],
    read: Read,
    encoder: FrameEncoder,
    n_frames: int,
    sizes: Sequence[int],
    workers: int,
    overlap: Overlap,
) -> Generator[tuple[Tensor, Tensor]]:
    pin = encoder.device.type == "cuda"
    frames = stream_frames(clips, read, encoder.prepare, n_frames, sizes, workers, pin)
    with closing(frames):
        yield from overlap.encode(frames, encoder.encode_on_device)


def _sources(rows: pl.DataFrame) -> list[str]:
    """What each clip's features are made from: a file's content, or a segment of it."""
    columns = ("sha256", "start_s", "end_s")
    return [
        sha256 if start is None and end is None else f"{sha256}:{start}:{end}"
        for sha256, start, end in rows.select(columns).iter_rows()
    ]


def _sizes(n: int, batch: int) -> list[int]:
    return [min(batch, n - start) for start in range(0, n, batch)]
