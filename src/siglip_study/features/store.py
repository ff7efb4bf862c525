"""Features of a split on disk: bf16, sharded, read through memory maps, written once.

A folder holds ``shard-00000.safetensors`` … and ``index.json`` (schema ``features/1``). Within a
shard a clip's tensor ``[F, P, V]`` is named by the clip's position in the split: ids are untrusted
text and stand only in the index.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path, read_json
from siglip_study.features.writer import FEATURES_SCHEMA, clip_name, shard_name

# ---- The scorer's frame embeddings of a split: one safetensors file, ids and facts in its header.

EMBEDDINGS_SCHEMA = "frame_embeddings/1"


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
        StudyError: the file is absent or is not one of these.
    """
    ids, embeddings = _read(path)
    return dict(zip(ids, embeddings, strict=True))


def _read(path: str | Path) -> tuple[list[str], Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("schema") != EMBEDDINGS_SCHEMA:
                raise StudyError(
                    f"{path}: schema is {header.get('schema')!r}; expected '{EMBEDDINGS_SCHEMA}'."
                )
            return json.loads(header["ids"]), file.get_tensor("embeddings")
    except (OSError, SafetensorError) as error:
        raise StudyError(f"{path}: cannot be read as frame embeddings ({error}).") from None


class FeatureStore:
    """Features of a split by clip id."""

    def __init__(self, folder: str | Path) -> None:
        """Read the index; tensors stay on disk until they are asked for.

        Raises:
            StudyError: the folder is not a finished feature folder.
        """
        self.folder = Path(folder)
        index = read_json(self.folder / "index.json", FEATURES_SCHEMA)
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
