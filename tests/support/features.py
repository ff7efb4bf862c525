"""Features written as a job writes them, from any function of ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from siglip_study.features.store import FeatureWriter
from siglip_study.runs.run import Inputs


def write_features(
    folder: Path,
    resume_folder: Path,
    ids: Sequence[str],
    encode: Callable[[list[str]], Tensor],
    shard_clips: int,
    facts: dict[str, Any],
    sources: Sequence[str] = (),
) -> None:
    """Encode a split shard by shard, only those that an earlier call has not finished."""
    with FeatureWriter(folder, resume_folder, ids, shard_clips, facts, sources) as writer:
        for clips in writer.todo:
            writer.put(encode(list(clips)))


def write_inputs(
    folder: Path,
    features: Any,
    sizes: Mapping[str, int],
    texts: Callable[[str, int], list[str]],
) -> Inputs:
    """Manifest and features of so many clips a split: ``train0``, … with captions ``texts``."""
    rows = [
        {"id": f"{split}{i}", "split": split, "captions": texts(split, i)}
        for split, n in sizes.items()
        for i in range(n)
    ]
    pl.DataFrame(rows).write_parquet(folder / "manifest.parquet")
    for split in sizes:
        ids = [row["id"] for row in rows if row["split"] == split]
        work = folder / f"work-{split}"
        write_features(folder / split, work, ids, features.batch, 4, features.facts)
    return Inputs(
        dict.fromkeys(sizes, folder / "manifest.parquet"),
        {split: folder / split for split in sizes},
    )
