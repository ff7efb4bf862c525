"""Shards of a split's features: which clips each holds, which are finished, and their bytes."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json

PLAN, _PLAN_SCHEMA = "plan.json", "features_plan/1"


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
    if (work / PLAN).is_file() and read_json(work / PLAN, _PLAN_SCHEMA) == {
        "schema": _PLAN_SCHEMA,
        **plan,
    }:
        # Shards appear by rename, so one that exists is whole.
        numbers = range(len(plan_shards(ids, shard_clips)))
        return {n for n in numbers if (work / shard_name(n)).is_file()}
    shutil.rmtree(work, ignore_errors=True)
    write_json(work / PLAN, plan, _PLAN_SCHEMA)
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
