"""Features of a split on disk: bf16, sharded, read through memory maps, written once.

A folder holds ``shard-00000.safetensors`` … and ``index.json`` (schema ``features/2``). Within a
shard a clip's tensor ``[F, P, V]`` is named by the clip's position in the split: ids are untrusted
text and stand only in the index. So does a CRC-32 of each clip's bytes, which is held against them
when a process first reads the clip: disks turn bits, and a study would train on them.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from siglip_study.base.errors import Damaged, StudyError
from siglip_study.base.io import (
    atomic_path,
    check_digest,
    digest_of,
    drop,
    read_index,
    read_json,
    remove_dir,
    sync,
    write_digest,
    write_json,
)

FEATURES_SCHEMA = "features/2"
#: of studies finished before: no checksums
_UNCHECKED_SCHEMA = "features/1"
EMBEDDINGS_SCHEMA = "frame_embeddings/1"
_INDEX = "index.json"
_PLAN, _PLAN_SCHEMA = "plan.json", "features_plan/2"
_SUMS_SCHEMA = "shard_sums/1"
#: batches that may wait for the disk
_DEPTH = 2


def clip_name(position: int) -> str:
    """The tensor name of the clip at this position in the split."""
    return f"{position:07d}"


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def _sums_name(number: int) -> str:
    return f"shard-{number:05d}.json"


class FeatureStore:
    """Features of a split by clip id."""

    def __init__(self, folder: str | Path) -> None:
        """Read the index; tensors stay on disk until they are asked for.

        Raises:
            StudyError: the folder is not a finished feature folder.
        """
        self.folder = Path(folder)
        index = read_index(self.folder / _INDEX, FEATURES_SCHEMA, _UNCHECKED_SCHEMA)
        self.facts: dict[str, Any] = index["facts"]
        self.shape: tuple[int, int, int] = tuple(index["shape"])
        self._place: dict[str, tuple[int, str]] = {}
        for shard, ids in enumerate(index["shards"]):
            for clip in ids:
                self._place[clip] = (shard, clip_name(len(self._place)))
        sums = [clip for shard in index.get("sums", ()) for clip in shard]
        #: checksums of clips that were not read yet
        self._unread: dict[str, int] = dict(zip(self._place, sums, strict=bool(sums)))
        self._open: dict[int, Any] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """All clip ids, in the manifest's order."""
        return tuple(self._place)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._place)

    def __contains__(self, clip: str) -> bool:
        """Whether a clip is stored."""
        return clip in self._place

    def __getitem__(self, clip: str) -> Tensor:
        """bf16 ``[F, P, V]`` of one clip.

        Raises:
            StudyError: the id is not stored, or its shard is damaged.
        """
        if clip not in self._place:
            raise StudyError(
                f"{self.folder}: no features of clip '{clip}'; expected one of its ids."
            )
        shard, name = self._place[clip]
        if shard not in self._open:
            path = self.folder / shard_name(shard)
            try:
                self._open[shard] = safe_open(str(path), framework="pt")
            except (OSError, SafetensorError) as error:
                raise self._damaged(path, str(error)) from None
        features: Tensor = self._open[shard].get_tensor(name)
        expected = self._unread.get(clip)
        if expected is not None and _checksum(features) != expected:
            raise self._damaged(self.folder / shard_name(shard), f"other bytes for clip '{clip}'")
        self._unread.pop(clip, None)
        return features

    def _damaged(self, path: Path, found: str) -> Damaged:
        return Damaged(f"{path}: damaged ({found})", self.folder)

    def batch(self, ids: Sequence[str]) -> Tensor:
        """bf16 ``[B, F, P, V]`` in the order of ``ids``.

        Raises:
            StudyError: an id is not stored.
        """
        return torch.stack([self[clip] for clip in ids])


def _checksum(features: Tensor) -> int:
    return zlib.crc32(features.contiguous().flatten().view(torch.uint8).numpy().data)


class FeatureWriter:
    """Takes encoded clips in order and writes them on a thread of its own; a context manager.

    Shards grow in ``resume_folder``, which becomes ``folder`` by one rename when the block ends
    well; the two must lie on one file system. When it ends in an error, what was given so far is
    written out, whole shards are kept and the begun one is dropped. What is found in the resume
    folder from other ids, facts, sources or shard sizes is discarded.
    """

    def __init__(
        self,
        folder: Path,
        resume_folder: Path,
        ids: Sequence[str],
        shard_clips: int,
        facts: dict[str, Any],
        sources: Sequence[str] = (),
    ) -> None:
        """Look for finished shards.

        ``facts`` say what made the features and go into the index; ``sources`` are hashes of the
        clips' files.

        Raises:
            StudyError: there is no id, or one repeats.
        """
        if not ids:
            raise StudyError("no clip to encode; expected at least one clip in the split.")
        if len(set(ids)) != len(ids):
            twice = next(clip for clip in ids if list(ids).count(clip) > 1)
            raise StudyError(f"clip '{twice}' occurs twice in a split; expected ids that differ.")
        self._target, self._work, self._facts = folder, resume_folder, facts
        self._shards = [list(ids[i : i + shard_clips]) for i in range(0, len(ids), shard_clips)]
        plan = {"ids": list(ids), "clips": shard_clips, "facts": facts, "sources": list(sources)}
        if not self._has_plan(plan):
            shutil.rmtree(self._work, ignore_errors=True)
            write_json(self._work / _PLAN, plan, _PLAN_SCHEMA)
        numbers = range(len(self._shards))
        self._todo = [number for number in numbers if not self._is_done(number)]
        #: ids of each shard that is to be encoded, in order
        self.todo = [self._shards[n] for n in self._todo]
        done = sorted(set(numbers) - set(self._todo))
        self._shape = self._stored_shape(done[0]) if done else None
        self._position, self._rows = 0, 0
        self._sums: list[int] = []
        self._file: BinaryIO | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feature-writer")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> FeatureWriter:
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
        number, first = self._todo[self._position], self._rows
        path, left = self._work / shard_name(number), len(self._shards[number]) - first
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
        if len(features) == left:
            self._position, self._rows = self._position + 1, 0
        while len(self._waiting) > _DEPTH:
            self._waiting.popleft().result()
        before = self._waiting[-1] if self._waiting else None
        self._waiting.append(
            self._thread.submit(self._write, before, number, first, features, finite)
        )

    def close(self) -> None:
        """Wait until all that was given is on disk.

        Raises:
            StudyError: as :meth:`put`.
        """
        self._thread.shutdown()
        while self._waiting:
            self._waiting.popleft().result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the disk; finish the folder if all went well."""
        self._thread.shutdown()
        if self._file is not None:
            with suppress(OSError):  # a disk that is full: what it begins is dropped
                self._file.close()
            Path(self._file.name).unlink()
        if kind is not None:
            return
        self.close()
        if self._position < len(self._todo):
            raise StudyError(f"{self._target}: not every clip was encoded.")
        beside = [self._work / _sums_name(number) for number in range(len(self._shards))]
        index = {
            "facts": self._facts,
            "dtype": "bfloat16",
            "shape": self._shape,
            "shards": self._shards,
            "sums": [read_json(path, _SUMS_SCHEMA)["sums"] for path in beside],
        }
        write_json(self._work / _INDEX, index, FEATURES_SCHEMA)
        write_digest(self._work / _INDEX)
        kept = {shard_name(number) for number in range(len(self._shards))} | {_INDEX, _PLAN}
        for path in self._work.iterdir():
            if path.name not in kept and path != digest_of(self._work / _INDEX):
                drop(path)  # checksums, and what lives that were killed left, on whatever node
        remove_dir(self._target)
        self._target.parent.mkdir(parents=True, exist_ok=True)
        # Last: without it a life that is killed here would leave shards that nobody takes.
        (self._work / _PLAN).unlink()
        self._work.replace(self._target)
        sync(self._target.parent)

    def _has_plan(self, plan: dict[str, Any]) -> bool:
        # As JSON gives it back, so that tuples and lists compare equal.
        wanted = {"schema": _PLAN_SCHEMA, **json.loads(json.dumps(plan))}
        try:
            return read_json(self._work / _PLAN, _PLAN_SCHEMA) == wanted
        except StudyError:  # none, or half of one
            return False

    def _is_done(self, number: int) -> bool:
        """Whether a shard of an earlier life is whole: it appears by rename after its checksums."""
        try:
            sums = read_json(self._work / _sums_name(number), _SUMS_SCHEMA)["sums"]
            self._stored_shape(number)
        except (StudyError, OSError, SafetensorError):  # not begun, or damaged since
            return False
        return len(sums) == len(self._shards[number])

    def _write(
        self,
        before: Future[None] | None,
        number: int,
        first: int,
        features: Tensor,
        finite: Tensor | None,
    ) -> None:
        """Write the clips of a shard from its row ``first`` on, in the writer's thread."""
        if before is not None:
            before.result()  # nothing is written after an error
        clips, path = self._shards[number], self._work / shard_name(number)
        known = features.isfinite().flatten(1).all(dim=1) if finite is None else finite
        if not known.all():
            bad = clips[first + int((~known).nonzero()[0])]
            raise StudyError(f"features of clip '{bad}' are not finite; expected numbers.")
        try:
            if self._file is None:
                self._file = path.with_suffix(".partial").open("wb")
                start = self._first_clip(number)
                names = [clip_name(start + i) for i in range(len(clips))]
                self._file.write(shard_header(names, features.shape[1:]))
            # Bytes as they lie in memory: no copy, and Python's lock is free meanwhile.
            rows = features.to(torch.bfloat16).contiguous()
            self._sums += [_checksum(row) for row in rows]
            self._file.write(rows.flatten().view(torch.uint8).numpy().data)
            if first + len(features) == len(clips):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                write_json(self._work / _sums_name(number), {"sums": self._sums}, _SUMS_SCHEMA)
                Path(self._file.name).replace(path)
                self._file, self._sums = None, []
        except OSError as error:
            raise StudyError(
                f"{path}: cannot be written ({error.strerror or error}); expected a disk with "
                "room for the features. Shards that are finished are kept."
            ) from error

    def _first_clip(self, number: int) -> int:
        return sum(len(shard) for shard in self._shards[:number])

    def _stored_shape(self, number: int) -> tuple[int, ...]:
        with safe_open(str(self._work / shard_name(number)), framework="pt") as shard:
            return tuple(shard.get_slice(clip_name(self._first_clip(number))).get_shape())


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


# ---- The scorer's frame embeddings of a split: one safetensors file, ids and facts in its header.


def write_frame_embeddings(
    path: str | Path, ids: Sequence[str], embeddings: Tensor, facts: dict[str, Any]
) -> None:
    """Write ``[N, F, E]`` in fp32 with its ids.

    Raises:
        StudyError: numbers of ids and rows differ, an id repeats, or a value is not finite.
    """
    if embeddings.ndim != 3 or len(ids) != len(embeddings) or len(set(ids)) != len(ids):
        raise StudyError(
            f"{path}: {len(set(ids))} different ids for embeddings {tuple(embeddings.shape)}; "
            "expected one row (frames, width) an id."
        )
    finite = embeddings.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        bad = ids[int((~finite).nonzero()[0])]
        raise StudyError(f"{path}: embeddings of clip '{bad}' are not finite; expected numbers.")
    header = {
        "schema": EMBEDDINGS_SCHEMA,
        "ids": json.dumps(list(ids), ensure_ascii=False),
        "facts": json.dumps(facts, ensure_ascii=False),
    }
    with atomic_path(path) as partial:
        save_file({"embeddings": embeddings.float().cpu().contiguous()}, partial, header)


def read_frame_embeddings(path: str | Path) -> dict[str, Tensor]:
    """Clip id → fp32 ``[F, E]``, rows of length 1.

    Raises:
        StudyError: the file is absent, damaged, or is not one of these.
    """
    check_digest(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("schema") != EMBEDDINGS_SCHEMA:
                raise StudyError(
                    f"{path}: schema is {header.get('schema')!r}; expected '{EMBEDDINGS_SCHEMA}'."
                )
            ids, embeddings = json.loads(header["ids"]), file.get_tensor("embeddings")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected frame embeddings.") from None
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise Damaged(f"{path}: no frame embeddings ({error})", Path(path)) from None
    return dict(zip(ids, embeddings, strict=True))
