"""Features of a split on disk: bf16, sharded, read through memory maps, written once.

A folder holds ``shard-00000.safetensors`` … and ``index.json`` (schema ``features/1``). Within a
shard a clip's tensor ``[F, P, V]`` is named by the clip's position in the split: ids are untrusted
text and stand only in the index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.features.shards import clip_name, shard_name
from siglip_study.features.writer import SCHEMA, FeatureWriter


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
                self._place[clip] = (shard, clip_name(len(self._place)))
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
            path = self.folder / shard_name(shard)
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
    with FeatureWriter(folder, resume_folder, ids, shard_clips, facts, sources) as writer:
        for clips in writer.todo:
            features = encode(list(clips))
            if len(features) != len(clips):
                raise StudyError(
                    f"{folder}: encoded features are {tuple(features.shape)}; expected "
                    f"({len(clips)}, frames, patches, width)."
                )
            writer.put(features.cpu())
