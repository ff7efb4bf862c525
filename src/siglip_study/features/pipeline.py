"""Decoding, encoding and writing at once: clips are read ahead by threads, in order, bounded."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.features.overlap import Overlap
from siglip_study.features.writer import FeatureWriter

if TYPE_CHECKING:
    import polars as pl

    from siglip_study.data.decoding import Decoder

Frames = NDArray[np.uint8]
log = logging.getLogger(__name__)


class _FrameModel(Protocol):
    """A model that frames are prepared for."""

    @property
    def facts(self) -> dict[str, Any]:
        """What made the features."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    def prepare(self, frames: Frames) -> Frames:
        """``[F, H, W, 3]`` → the model's size; called from several threads."""


class PatchEncoder(_FrameModel, Protocol):
    """What ``encode_split`` needs of a ``VisionEncoder``."""

    def encode_on_device(self, frames: Tensor) -> Tensor:
        """uint8 ``[B, F, h, w, 3]`` → bf16 ``[B, F, P, V]``, both on the device."""


class FrameScorer(_FrameModel, Protocol):
    """What ``embed_split`` needs of a ``Scorer``."""

    def image_embeddings_on_device(self, frames: Tensor) -> Tensor:
        """uint8 ``[B, F, h, w, 3]`` → ``[B, F, E]``, both on the device."""


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
    from siglip_study.base.errors import ClipError

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


def encode_split(
    rows: pl.DataFrame | Mapping[str, Sequence[str]],
    root: str | Path,
    decoder: Decoder,
    encoder: PatchEncoder,
    n_frames: int,
    batch_clips: int,
    workers: int,
    shard_clips: int,
    folder: str | Path,
    resume_folder: str | Path,
) -> None:
    """Encode the clips of one split into a feature folder (see ``features/store.py``).

    Args:
        rows: the split's rows of the manifest, in order; the columns id, path and sha256 are used.
        root: the dataset's folder.
        decoder: reads clips.
        encoder: encodes them.
        n_frames: frames a clip, uniform in time.
        batch_clips: clips encoded together.
        workers: decoding threads; 0: one a core.
        shard_clips: clips a shard.
        folder: where the finished features appear.
        resume_folder: where finished shards of a killed call are found.

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
    scorer: FrameScorer,
    n_frames: int,
    batch_clips: int,
    workers: int,
    path: str | Path,
) -> None:
    """Write the scorer's frame embeddings of one split (see ``features/frame_embeddings.py``).

    Args and errors as in :func:`encode_split`; ``path`` is the safetensors file.
    """
    from siglip_study.features.store import write_frame_embeddings

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
