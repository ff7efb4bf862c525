"""Writing features shard by shard on a thread of their own, so that the encoder need not wait."""

from __future__ import annotations

import json
import math
import shutil
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path, read_json, write_json

FEATURES_SCHEMA = "features/1"
_PLAN, _PLAN_SCHEMA = "plan.json", "features_plan/1"


class _Abandoned(Exception):
    """The caller failed before the shard was complete."""


class FeatureWriter:
    """Takes encoded clips in order and writes them; a context manager.

    Shards grow in ``resume_folder``, which becomes ``folder`` by one rename when the block ends
    well; the two must lie on one file system. When it ends in an error, what was given so far is
    written out, whole shards are kept and the begun one is dropped. What is found in the resume
    folder from other ids, facts, sources or shard sizes is discarded.
    """

    def __init__(
        self,
        folder: str | Path,
        resume_folder: str | Path,
        ids: Sequence[str],
        shard_clips: int,
        facts: dict[str, Any],
        sources: Sequence[str] = (),
        depth: int = 2,
    ) -> None:
        """Look for finished shards.

        ``facts`` say what made the features and go into the index; ``sources`` are hashes of the
        clips' files; ``depth`` batches may wait for the disk, more make :meth:`put` wait.

        Raises:
            StudyError: there is no id, or one repeats.
        """
        self._target, self._work = Path(folder), Path(resume_folder)
        self._facts = facts
        self._shards = _plan_shards(ids, shard_clips)
        done = _finished_shards(resume_folder, ids, shard_clips, facts, sources)
        self._todo = [n for n in range(len(self._shards)) if n not in done]
        #: ids of each shard that is to be encoded, in order
        self.todo = [self._shards[n] for n in self._todo]
        self._shape = self._stored_shape(min(done)) if done else None
        self._position, self._rows = 0, 0
        self._queue: Queue[tuple[Tensor, Tensor | None] | None] = Queue(max(1, depth))
        self._error: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="feature-writer")

    def __enter__(self) -> FeatureWriter:
        """Start the thread."""
        self._thread.start()
        return self

    def put(self, features: Tensor, finite: Tensor | None = None) -> None:
        """Hand over the next clips; they must not be changed afterwards.

        Args:
            features: bf16 or wider ``[B, F, P, V]`` on the CPU; clips of one shard.
            finite: bool ``[B]``, where it is known already whether a clip's numbers are finite.

        Raises:
            StudyError: another shape than before, more clips than the shard has left, features
                that are not finite, or a file that cannot be written.
        """
        self._check_thread()
        number = self._todo[self._position]
        path, left = self._work / shard_name(number), len(self._shards[number]) - self._rows
        if features.ndim != 4 or not 0 < len(features) <= left:
            raise StudyError(
                f"{path}: encoded features are {tuple(features.shape)}; expected "
                f"({left}, frames, patches, width)."
            )
        shape = tuple(features.shape[1:])
        if self._shape is not None and shape != self._shape:
            raise StudyError(
                f"{path}: features of {shape}; expected {self._shape} as in other shards."
            )
        self._shape = shape
        self._rows += len(features)
        if self._rows == len(self._shards[number]):
            self._position, self._rows = self._position + 1, 0
        self._queue.put((features, finite))
        self._check_thread()

    def close(self) -> None:
        """Wait until all that was given is on disk.

        Raises:
            StudyError: as :meth:`put`.
        """
        self._stop()
        self._check_thread()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the disk; finish the folder if all went well."""
        if kind is not None:
            self._stop()
            return
        self.close()
        if self._position < len(self._todo):
            raise StudyError(f"{self._target}: not every clip was encoded.")
        index = {
            "facts": self._facts,
            "dtype": "bfloat16",
            "shape": self._shape,
            "shards": self._shards,
        }
        write_json(self._work / "index.json", index, FEATURES_SCHEMA)
        if self._target.exists():
            shutil.rmtree(self._target)
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._work.replace(self._target)
        (self._target / _PLAN).unlink()

    def _stop(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _check_thread(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for number in self._todo:
                self._write_shard(number)
        except _Abandoned:
            return
        except BaseException as error:  # raised again on the caller's thread
            self._error = error
        # After an error the caller may be waiting for room, and must come to see it; after the last
        # shard only the end is left.
        while self._queue.get() is not None:
            pass

    def _write_shard(self, number: int) -> None:
        path, clips = self._work / shard_name(number), self._shards[number]
        start = sum(len(shard) for shard in self._shards[:number])
        names = [clip_name(start + i) for i in range(len(clips))]
        written = 0
        try:
            with atomic_path(path) as partial, partial.open("wb") as file:
                while written < len(clips):
                    given = self._queue.get()
                    if given is None:
                        raise _Abandoned
                    features, finite = given
                    _check_finite(clips[written : written + len(features)], features, finite)
                    if not written:
                        file.write(shard_header(names, features.shape[1:]))
                    # Bytes as they lie in memory: no copy, and Python's lock is free meanwhile.
                    rows = features.to(torch.bfloat16).contiguous()
                    file.write(rows.flatten().view(torch.uint8).numpy().data)
                    written += len(features)
        except OSError as error:
            raise StudyError(
                f"{path}: cannot be written ({error.strerror or error}); expected a disk with "
                "room for the features. Shards that are finished are kept."
            ) from error

    def _stored_shape(self, number: int) -> tuple[int, ...]:
        name = clip_name(sum(len(shard) for shard in self._shards[:number]))
        with safe_open(str(self._work / shard_name(number)), framework="pt") as shard:
            return tuple(shard.get_slice(name).get_shape())


def _check_finite(clips: Sequence[str], features: Tensor, finite: Tensor | None) -> None:
    known = features.isfinite().flatten(1).all(dim=1) if finite is None else finite
    if not known.all():
        bad = clips[int((~known).nonzero()[0])]
        raise StudyError(f"features of clip '{bad}' are not finite; expected numbers.")


def _plan_shards(ids: Sequence[str], shard_clips: int) -> list[list[str]]:
    if not ids:
        raise StudyError("no clip to encode; expected at least one clip in the split.")
    if len(set(ids)) != len(ids):
        twice = next(clip for clip in ids if list(ids).count(clip) > 1)
        raise StudyError(f"clip '{twice}' occurs twice in a split; expected ids that differ.")
    return [list(ids[i : i + shard_clips]) for i in range(0, len(ids), shard_clips)]


def _finished_shards(
    resume_folder: str | Path,
    ids: Sequence[str],
    shard_clips: int,
    facts: dict[str, Any],
    sources: Sequence[str] = (),
) -> set[int]:
    """Numbers of the shards that an earlier call with the same plan finished.

    The resume folder is made, and emptied where it holds the work of another plan.
    """
    work = Path(resume_folder)
    # As JSON gives it back, so that tuples and lists compare equal.
    plan = json.loads(
        json.dumps({"ids": ids, "clips": shard_clips, "facts": facts, "sources": sources})
    )
    if (work / _PLAN).is_file() and read_json(work / _PLAN, _PLAN_SCHEMA) == {
        "schema": _PLAN_SCHEMA,
        **plan,
    }:
        # Shards appear by rename, so one that exists is whole.
        numbers = range(len(_plan_shards(ids, shard_clips)))
        return {n for n in numbers if (work / shard_name(n)).is_file()}
    shutil.rmtree(work, ignore_errors=True)
    write_json(work / _PLAN, plan, _PLAN_SCHEMA)
    return set()


def clip_name(position: int) -> str:
    """The tensor name of the clip at this position in the split."""
    return f"{position:07d}"


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def shard_header(names: Sequence[str], shape: Sequence[int]) -> bytes:
    """What precedes the data of bf16 tensors of one shape, in the safetensors format.

    The tensors' bytes follow in the order of ``names``. Known before any tensor is, it lets a
    shard be written while its clips are still being encoded.
    """
    size = 2 * math.prod(shape)
    entries = {
        name: {
            "dtype": "BF16",
            "shape": list(shape),
            "data_offsets": [i * size, (i + 1) * size],
        }
        for i, name in enumerate(names)
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    # The data begin at a multiple of eight bytes.
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
