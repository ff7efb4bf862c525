"""Decoding overlapped with encoding: clips are read ahead by threads, in order and bounded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from siglip_study.data.decoding import Decoder
from siglip_study.data.probing import ClipError
from siglip_study.errors import StudyError
from siglip_study.features.store import finished_shards, plan_shards, write_features

Frames = NDArray[np.uint8]


class PatchEncoder(Protocol):
    """What ``encode_split`` needs of a ``VisionEncoder``."""

    @property
    def facts(self) -> dict[str, Any]:
        """What made the features."""

    def prepare(self, frames: Frames) -> Frames:
        """``[F, H, W, 3]`` → the model's size; called from several threads."""

    def encode_prepared(self, frames: Frames) -> Tensor:
        """``[B, F, h, w, 3]`` → ``[B, F, P, V]``."""


class FrameScorer(Protocol):
    """What ``embed_split`` needs of a ``Scorer``."""

    @property
    def facts(self) -> dict[str, Any]:
        """What made the embeddings."""

    def prepare(self, frames: Frames) -> Frames:
        """``[F, H, W, 3]`` → the model's size; called from several threads."""

    def image_embeddings_prepared(self, frames: Frames) -> Tensor:
        """``[B, F, h, w, 3]`` → ``[B, F, E]``."""


def stream_frames(
    clips: Sequence[tuple[str, Path]],
    decoder: Decoder,
    prepare: Any,
    n_frames: int,
    batches: Sequence[int],
    workers: int,
) -> Iterator[Frames]:
    """Decoded and prepared batches ``[B, F, h, w, 3]``, in the order of ``clips``.

    While the consumer works on a batch, the next one is being decoded; no more than one batch and
    one clip a worker wait in memory.

    Args:
        clips: (id, path) of each clip.
        decoder: reads a clip.
        prepare: ``[F, H, W, 3]`` → ``[F, h, w, 3]``, the same size for every clip.
        n_frames: frames a clip.
        batches: how many clips each batch has; they sum to the number of clips.
        workers: decoding threads; 0: one a core. Decoders work outside Python's lock.

    Raises:
        StudyError: a clip cannot be read; it is named.
    """
    count = workers or len(os.sched_getaffinity(0))
    ahead = max(batches, default=0) + count
    waiting: deque[Future[Frames]] = deque()
    pending = iter(clips)

    def load(clip: tuple[str, Path]) -> Frames:
        try:
            frames: Frames = prepare(decoder.read(clip[1], n_frames))
        except ClipError as error:
            raise StudyError(
                f"clip '{clip[0]}' ({clip[1]}) cannot be read any more: {error}; "
                "expected the file that the manifest was made from."
            ) from error
        return frames

    threads = ThreadPoolExecutor(count)
    try:
        for size in batches:
            ready: list[Frames] = []
            while len(ready) < size:
                while len(waiting) < ahead and (clip := next(pending, None)) is not None:
                    waiting.append(threads.submit(load, clip))
                ready.append(waiting.popleft().result())
            while len(waiting) < ahead and (clip := next(pending, None)) is not None:
                waiting.append(threads.submit(load, clip))
            yield np.stack(ready)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def encode_split(
    rows: pl.DataFrame,
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
        rows: the split's rows of the manifest, in order; id, path and sha256 are used.
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
    ids = rows["id"].to_list()
    paths = _paths(rows, root)
    facts = {**encoder.facts, "frames": n_frames, "decoder": decoder.name}
    sources = rows["sha256"].to_list()
    shards = plan_shards(ids, shard_clips)
    done = finished_shards(resume_folder, ids, shard_clips, facts, sources)
    todo = [shard for number, shard in enumerate(shards) if number not in done]
    stream = stream_frames(
        [(clip, paths[clip]) for shard in todo for clip in shard],
        decoder,
        encoder.prepare,
        n_frames,
        [size for shard in todo for size in _sizes(len(shard), batch_clips)],
        workers,
    )

    def encode(shard: list[str]) -> Tensor:
        batches = len(_sizes(len(shard), batch_clips))
        return torch.cat([encoder.encode_prepared(next(stream)) for _ in range(batches)])

    try:
        write_features(folder, resume_folder, ids, encode, shard_clips, facts, sources)
    finally:
        stream.close()  # type: ignore[attr-defined]


def embed_split(
    rows: pl.DataFrame,
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
    from siglip_study.features.frame_embeddings import write_frame_embeddings

    ids, paths = rows["id"].to_list(), _paths(rows, root)
    sizes = _sizes(len(ids), batch_clips)
    clips = [(clip, paths[clip]) for clip in ids]
    stream = stream_frames(clips, decoder, scorer.prepare, n_frames, sizes, workers)
    parts = [scorer.image_embeddings_prepared(frames) for frames in stream]
    facts = {**scorer.facts, "frames": n_frames, "decoder": decoder.name}
    write_frame_embeddings(path, ids, torch.cat(parts), facts)


def _paths(rows: pl.DataFrame, root: str | Path) -> dict[str, Path]:
    return {clip: Path(root) / path for clip, path in rows.select("id", "path").iter_rows()}


def _sizes(n: int, batch: int) -> list[int]:
    return [min(batch, n - start) for start in range(0, n, batch)]
