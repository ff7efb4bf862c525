"""Both halves of a held-out split put together: a captioner's scores as if there were one split.

Everything that compares a clip with others (D, retrieval, diversity) was measured within a half.
Here nothing is compared anew:

* a figure of single clips is their mean over source videos of both halves, with its interval;
  clips that have none (of a category too small to compare within) are left out, as in a half;
* a figure of a whole split (effective captions, top cluster, …) is weighted by clips, as
  :func:`siglip_study.ranking.crossfit.pool` weights it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json, write_parquet
from siglip_study.metrics.base import MetricInfo
from siglip_study.metrics.grounding import mean_interval
from siglip_study.metrics.registry import METRICS, WITHIN_CATEGORY
from siglip_study.scoring.score_captions import CLIP_METRICS
from siglip_study.study.paths import Paths

#: What stands in place of a split's name.
POOLED = "held_out"


def pool_study(
    paths: Paths,
    parts: Mapping[str, Mapping[str, str]],
    out: Path,
    facts: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Put the halves of every captioner together, each in its run's folder; write an index.

    Args:
        paths: of the study.
        parts: captioner → half → the cell that reports it.
        out: the index, schema ``pooled/1``.
        facts: id → true facts of a clip, in the demo only.
    """
    for name, cells in parts.items():
        halves = {half: (cell, paths.scored(cell, half)) for half, cell in cells.items()}
        pool_halves(name, halves, paths.run(name), facts)
    write_json(out, {"captioners": parts}, "pooled/1")


def pool_halves(
    name: str,
    halves: Mapping[str, tuple[str, Path]],
    out: Path,
    facts: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Write ``metrics.json`` and ``clips.parquet`` of one captioner over both halves.

    Args:
        name: of the captioner; where two cells report a half each, of what they are together.
        halves: half → the cell that reports it and the folder of its scores on that half.
        out: folder to write to.
        facts: id → true facts of a clip, in the demo only.

    Raises:
        StudyError: scores are missing or of another cell or half, or a source video has clips in
            both halves.
    """
    told = [_read(cell, half, folder) for half, (cell, folder) in halves.items()]
    tables = [pl.read_parquet(folder / "clips.parquet").sort("id") for _, folder in halves.values()]
    groups = [table["group"].to_list() for table in tables]
    shared = set(groups[0]).intersection(*map(set, groups[1:]))
    if len(groups) > 1 and shared:
        raise StudyError(
            f"{name}: source video '{min(shared)}' has clips in both halves; expected each in one."
        )
    clips = _clips(name, tables)
    by_clips = _shares([len(own) for own in groups])
    values, missing = _values(told, tables, clips, by_clips)
    parts = {half: cell for half, (cell, _) in halves.items()}
    first = told[0]
    body = {
        **{key: first[key] for key in ("role", "projector", "seed")},
        "metrics": {name: about for half in told for name, about in half["metrics"].items()},
        "cell": name,
        "split": POOLED if len(halves) > 1 else next(iter(halves)),
        "parts": parts if len(set(parts.values())) > 1 else None,
        "n_clips": clips.height,
        "values": values,
        "losses": _losses(clips),
        "not_computed": missing,
        "notes": {
            key: sum(half["notes"].get(key, 0) for half in told)
            for key in sorted({key for half in told for key in half["notes"]})
        },
        "n_empty": sum(half["n_empty"] for half in told),
        "truncated_share": float(np.dot(by_clips, [half["truncated_share"] for half in told])),
        "temperature": {half: own["temperature"] for half, own in zip(halves, told, strict=True)},
        "truth": facts and _truth(clips, facts),
    }
    write_parquet(out / "clips.parquet", clips)
    write_json(out / "metrics.json", body, "metrics/1")


def _read(cell: str, half: str, folder: Path) -> dict[str, Any]:
    metrics = read_json(folder / "metrics.json", "metrics/1")
    found = (metrics["cell"], metrics["split"])
    if found != (cell, half):
        raise StudyError(
            f"{folder / 'metrics.json'}: speaks of cell '{found[0]}' on '{found[1]}'; expected "
            f"'{cell}' on '{half}'."
        )
    return metrics


def _shares(counts: Sequence[int]) -> np.ndarray:
    return np.array(counts, dtype=float) / sum(counts)


def _clips(name: str, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One table; clusters were formed within a half, so they stay apart by number."""
    shifted, first = [], 0
    for table in tables:
        shifted.append(table.with_columns(pl.col("cluster") + first, cell=pl.lit(name)))
        first += int(table["cluster"].max() or 0) + 1  # type: ignore[arg-type]
    return pl.concat(shifted).sort("id")


def _values(
    told: Sequence[Mapping[str, Any]],
    tables: Sequence[pl.DataFrame],
    clips: pl.DataFrame,
    by_clips: np.ndarray,
) -> tuple[dict[str, dict[str, float | None]], dict[str, str]]:
    """Every metric that both halves have, and why the others are missing.

    What is asked within a category needs one half only: it is of the clips that have it, and the
    other half may have no category of three.
    """
    groups = clips["group"].to_list()
    values: dict[str, dict[str, float | None]] = {}
    missing = {key: why for half in told for key, why in half["not_computed"].items()}
    for metric in METRICS:
        found = [half["values"].get(metric) for half in told]
        known = [value is not None for value in found]
        if not (any(known) if metric in WITHIN_CATEGORY else all(known)):
            continue
        if metric in CLIP_METRICS:
            counts = [table.drop_nulls(metric)["group"].n_unique() for table in tables]
            shares = _shares(counts)
            value, low, high = _interval(clips[metric], groups)
        else:
            shares, low, high = by_clips, None, None
            value = float(np.dot(shares, [half["value"] for half in found if half]))
        low, high = _within(low, high, METRICS[metric])
        beside = {key: _weighted([half and half[key] for half in found], shares) for key in BESIDE}
        values[metric] = {"value": value, "low": low, "high": high, **beside}
        missing.pop(metric, None)
    return values, missing


#: Figures beside a value.
BESIDE = ("reference", "chance")


def _interval(column: pl.Series, groups: list[str]) -> tuple[float, float | None, float | None]:
    numbers = column.cast(pl.Float64).fill_null(math.nan).to_numpy()
    value, low, high = mean_interval(numbers, groups)
    return value, low if math.isfinite(low) else None, high if math.isfinite(high) else None


def _within(
    low: float | None, high: float | None, about: MetricInfo
) -> tuple[float | None, float | None]:
    """Bounds kept within the metric's range."""
    if low is not None and about.min_value is not None:
        low = max(low, about.min_value)
    if high is not None and about.max_value is not None:
        high = min(high, about.max_value)
    return low, high


def _weighted(values: Sequence[float | None], shares: np.ndarray) -> float | None:
    """Mean of the halves that count; None where one of those has no value."""
    counted = [(value, share) for value, share in zip(values, shares, strict=True) if share > 0]
    if any(value is None for value, _ in counted):
        return None
    return float(sum(value * share for value, share in counted if value is not None))


def _losses(clips: pl.DataFrame) -> dict[str, Any] | None:
    """Mean losses with the gaps' intervals, from the clips' own."""
    if clips["loss_matched"].null_count() == clips.height:
        return None
    groups = clips["group"].to_list()

    def gap(condition: str) -> dict[str, float | None]:
        bounds = _interval(clips[f"loss_{condition}"] - clips["loss_matched"], groups)
        return dict(zip(("value", "low", "high"), bounds, strict=True))

    return {
        "matched": clips["loss_matched"].mean(),
        "shuffled_gap": gap("shuffled"),
        "reversed_gap": gap("reversed"),
    }


def _truth(clips: pl.DataFrame, facts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    from siglip_study.scoring.cell_scores import truth_of

    return truth_of(clips["caption"].to_list(), [facts[clip] for clip in clips["id"]])
