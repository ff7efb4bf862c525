"""Features of a split on disk: bf16, sharded, read through memory maps, written once.

A folder holds ``shard-00000.safetensors`` … and ``index.json`` (schema ``features/1``). Within a
shard a clip's tensor ``[F, P, V]`` is named by the clip's position in the split: ids are untrusted
text and stand only in the index.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from siglip_study.errors import StudyError
from siglip_study.io import atomic_path, read_json, write_json

SCHEMA = "features/1"
_PLAN, _PLAN_SCHEMA = "plan.json", "features_plan/1"


class FeatureStore:
    """Features of a split by clip id."""

    def __init__(self, folder: str | Path) -> None:
        """Read the index; tensors stay on disk until they are asked for.

        Raises:
            StudyError: the folder is not a finished feature folder.
        """
        self.folder = Path(folder)
        index = read_json(self.folder / "index.json", SCHEMA)
        self.facts: dict[str, Any] = index["facts"]
        self.shape: tuple[int, int, int] = tuple(index["shape"])
        self._place: dict[str, tuple[int, str]] = {}
        for shard, ids in enumerate(index["shards"]):
            for clip in ids:
                self._place[clip] = (shard, _name(len(self._place)))
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
            StudyError: the id is not stored.
        """
        if clip not in self._place:
            raise StudyError(
                f"{self.folder}: no features of clip '{clip}'; expected one of its ids."
            )
        shard, name = self._place[clip]
        if shard not in self._open:
            path = self.folder / _shard_name(shard)
            try:
                self._open[shard] = safe_open(str(path), framework="pt")
            except (OSError, SafetensorError) as error:
                raise StudyError(f"{path}: cannot be read as safetensors ({error}).") from None
        features: Tensor = self._open[shard].get_tensor(name)
        return features

    def batch(self, ids: Sequence[str]) -> Tensor:
        """bf16 ``[B, F, P, V]`` in the order of ``ids``.

        Raises:
            StudyError: an id is not stored.
        """
        return torch.stack([self[clip] for clip in ids])


def write_features(
    folder: str | Path,
    resume_folder: str | Path,
    ids: Sequence[str],
    encode: Callable[[list[str]], Tensor],
    shard_clips: int,
    facts: dict[str, Any],
    sources: Sequence[str] = (),
) -> None:
    """Encode a split shard by shard; a killed call keeps its finished shards.

    Shards grow in ``resume_folder``, which becomes ``folder`` by one rename; the two must lie on
    one file system. What is found there from other ids, facts or shard sizes is discarded.

    Args:
        folder: where the finished features appear.
        resume_folder: where unfinished work is kept.
        ids: clip ids in order; only those of unfinished shards are encoded.
        encode: ids of one shard → ``[B, F, P, V]``.
        shard_clips: clips a shard.
        facts: what made the features; goes into the index and decides whether shards are reused.
        sources: hashes of the clips' files; a changed one means that shards are not reused.

    Raises:
        StudyError: an id repeats, there is none, or ``encode`` gives another shape or numbers that
            are not finite.
    """
    target, work = Path(folder), Path(resume_folder)
    shards = plan_shards(ids, shard_clips)
    done = finished_shards(work, ids, shard_clips, facts, sources)
    shape: tuple[int, ...] | None = None
    start = 0
    for number, clips in enumerate(shards):
        path = work / _shard_name(number)
        names = [_name(start + i) for i in range(len(clips))]
        start += len(clips)
        if number not in done:
            _write_shard(path, names, clips, encode(list(clips)))
        with safe_open(str(path), framework="pt") as shard:
            found = tuple(shard.get_slice(names[0]).get_shape())
        if shape is not None and found != shape:
            raise StudyError(f"{path}: features of {found}; expected {shape} as in other shards.")
        shape = found
    index = {"facts": facts, "dtype": "bfloat16", "shape": shape, "shards": shards}
    write_json(work / "index.json", index, SCHEMA)
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    work.replace(target)
    (target / _PLAN).unlink()


def plan_shards(ids: Sequence[str], shard_clips: int) -> list[list[str]]:
    """Ids cut into shards, in order.

    Raises:
        StudyError: there is no id, or one repeats.
    """
    if not ids:
        raise StudyError("no clip to encode; expected at least one clip in the split.")
    if len(set(ids)) != len(ids):
        twice = next(clip for clip in ids if list(ids).count(clip) > 1)
        raise StudyError(f"clip '{twice}' occurs twice in a split; expected ids that differ.")
    return [list(ids[i : i + shard_clips]) for i in range(0, len(ids), shard_clips)]


def finished_shards(
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
        numbers = range(len(plan_shards(ids, shard_clips)))
        return {n for n in numbers if (work / _shard_name(n)).is_file()}
    shutil.rmtree(work, ignore_errors=True)
    write_json(work / _PLAN, plan, _PLAN_SCHEMA)
    return set()


def _write_shard(path: Path, names: list[str], clips: list[str], features: Tensor) -> None:
    if features.ndim != 4 or len(features) != len(clips):
        raise StudyError(
            f"{path}: encoded features are {tuple(features.shape)}; expected "
            f"({len(clips)}, frames, patches, width)."
        )
    finite = features.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        bad = clips[int((~finite).nonzero()[0])]
        raise StudyError(f"features of clip '{bad}' are not finite; expected numbers.")
    rows = features.to(torch.bfloat16).cpu()
    with atomic_path(path) as partial:
        save_file({n: row.contiguous() for n, row in zip(names, rows, strict=True)}, partial)


def _name(position: int) -> str:
    return f"{position:07d}"


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"
