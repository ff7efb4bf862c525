"""Features written as a job writes them, from any function of ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from siglip_study.features.store import FeatureWriter


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
