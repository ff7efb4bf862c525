"""What is read of captioners, and of the demo's clips: captions, losses and true facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, read_parquet, read_result
from siglip_study.metrics.ids import check_same_ids

if TYPE_CHECKING:
    import polars as pl

#: True facts: id → attribute → value.
Facts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class CaptionRecord:
    """One caption. ``condition`` is ``matched``, or what stood in the video's place.

    ``id`` is None without a clip; ``n_tokens`` is where no model generated it.
    """

    id: str | None
    split: str
    condition: str
    caption: str
    n_tokens: int | None
    truncated: bool


@dataclass(frozen=True)
class _Captions:
    records: tuple[CaptionRecord, ...]


def read_captions(path: Path) -> tuple[CaptionRecord, ...]:
    """The records of ``captions.json``.

    Raises:
        StudyError: it is missing or damaged, or a record lacks a key.
    """
    return read_result(path, _Captions, "captions/1").records


def read_losses(path: Path, split: str, ids: Sequence[str]) -> dict[str, pl.Series]:
    """Of ``losses.parquet`` one column a condition (nats a token), in the order of ``ids``.

    Without values for a captioner that has no model, and so no file.

    Raises:
        StudyError: it is damaged, or has other clips of the split.
    """
    import polars as pl

    columns = {"id": pl.String, "split": pl.String, "condition": pl.String, "loss": pl.Float64}
    table = None
    if path.is_file():
        table = read_parquet(path, [*columns])
        if table.schema != columns:
            raise StudyError(f"{path}: has columns {table.schema}; expected {columns}.")
        table = table.filter(split=split)
    found = {}
    for condition in ("matched", "shuffled", "reversed"):
        values: dict[str, float | None] = dict.fromkeys(ids)
        if table is not None:
            rows = table.filter(condition=condition)
            check_same_ids(ids, rows["id"], "the manifest", str(path))
            values = dict(rows.select("id", "loss").iter_rows())
        found[f"loss_{condition}"] = pl.Series([values[clip] for clip in ids], dtype=pl.Float64)
    return found


def read_facts(path: Path) -> Facts:
    """``facts.json`` of the demo.

    Raises:
        StudyError: it is missing or damaged, or holds something else than texts.
    """
    facts = read_json(path, "facts/1")
    del facts["schema"]
    for clip, own in facts.items():
        if not isinstance(own, dict) or not all(isinstance(value, str) for value in own.values()):
            raise StudyError(f"{path}: '{clip}' is no mapping of attributes to values.")
    return facts
