"""A captioner's scores as files, and both halves of a held-out split as one.

``metrics.json`` holds the figures of all clips, ``clips.parquet`` a row a clip. Where one held-out
split is halved, rows have a column ``half``, and ``metrics.json`` the figures of each half beside
those of both. Who chooses or reports by a half filters by it.

Everything that compares a clip with others (D, retrieval, diversity) is measured within a half. For
both together nothing is compared anew:

* a figure of single clips is their mean over source videos of both halves, with its interval;
  clips that have none (of a category too small to compare within) are left out, as in a half;
* a figure of a whole split (effective captions, top cluster, …) is averaged with the halves' clips
  as weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.errors import Damaged, StudyError
from siglip_study.base.io import (
    file_digest,
    read_json,
    read_parquet,
    write_digest,
    write_json,
    write_parquet,
)
from siglip_study.metrics.base import METRICS, Metric
from siglip_study.metrics.grounding import mean_interval
from siglip_study.scoring.inputs import Facts

#: What stands in place of a split's name where both halves are meant.
BOTH = "held_out"


@dataclass(frozen=True)
class SplitScores:
    """A captioner's scores on one split: the figures of ``metrics.json``, and a row a clip."""

    split: str
    figures: dict[str, Any]
    clips: pl.DataFrame


def write_scores(
    folder: Path, about: Mapping[str, Any], scored: Sequence[SplitScores], facts: Facts
) -> None:
    """Write both files of a captioner.

    ``metrics.json``, which holds the key, goes first and comes last: killed in between, the
    captioner has no key, and never that of other clips.

    Args:
        folder: to write to.
        about: who was scored: ``cell``, ``role``, ``projector``, ``seed``, …
        scored: its scores on one split, or on both halves.
        facts: true facts of the clips, in the demo only; else empty.
    """
    figures, clips = scored[0].figures, scored[0].clips
    body = {**about, "split": scored[0].split}
    if len(scored) > 1:
        figures, clips = both_halves(about["cell"], scored)
        body["split"] = BOTH
        halves = {own.split: dict(own.figures) for own in scored}
        for own in halves.values():
            del own["metrics"]  # told once, for all
        body["halves"] = halves
    body |= figures
    true = [facts[clip] for clip in clips["id"]] if facts else None
    body["truth"] = true and truth_of(clips["caption"].to_list(), true)
    (folder / "metrics.json").unlink(missing_ok=True)
    write_parquet(folder / "clips.parquet", clips)
    body["clips_sha256"] = file_digest(folder / "clips.parquet")
    write_json(folder / "metrics.json", body, "metrics/1")
    write_digest(folder / "metrics.json")


def _damaged(path: Path) -> StudyError:
    """No rule declares these files: what stands for them are the indices of the scoring jobs."""
    found = f"{path}: {'damaged' if path.is_file() else 'missing'}"
    tables = (parent / "tables" for parent in path.parents)
    indices = [index for folder in tables for index in sorted(folder.glob("scores.*.json"))]
    if not indices:
        return StudyError(f"{found}; expected the scores of a captioner.")
    return Damaged(found, *indices)


def read_metrics(folder: Path) -> dict[str, Any]:
    """``metrics.json``.

    Raises:
        StudyError: it is missing or damaged.
    """
    path = folder / "metrics.json"
    try:
        return read_json(path, "metrics/1")
    except StudyError:
        raise _damaged(path) from None


def read_clips(folder: Path, metrics: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of ``clips.parquet`` beside these ``metrics``.

    Raises:
        StudyError: it is missing, or not the file that was written with them.
    """
    path = folder / "clips.parquet"
    if not path.is_file() or file_digest(path) != metrics.get("clips_sha256", file_digest(path)):
        raise _damaged(path)
    return read_parquet(path)


def read_scores(folder: Path, half: str | None = None) -> tuple[dict[str, Any], pl.DataFrame]:
    """``metrics.json`` and the rows of ``clips.parquet`` in order of ids, of one half if named.

    Raises:
        StudyError: a file is missing or damaged, or knows of no such half.
    """
    metrics = read_metrics(folder)
    clips = read_clips(folder, metrics).sort("id")
    metrics.pop("clips_sha256", None)  # it says nothing of a half
    if half is None:
        return metrics, clips
    return of_half(metrics, half, folder), clips.filter(pl.col("half") == half)


def of_half(metrics: Mapping[str, Any], half: str, folder: Path) -> dict[str, Any]:
    """``metrics.json`` of a captioner as if the half were the split."""
    halves = metrics.get("halves") or {}
    if half not in halves:
        raise StudyError(
            f"{folder / 'metrics.json'}: has scores of "
            f"{', '.join(halves) or 'no half'}; expected half '{half}'."
        )
    return {**metrics, **halves[half], "split": half}


def join_halves(
    name: str, parts: Mapping[str, Path], out: Path, facts: Facts | None = None
) -> None:
    """Write the scores of two cells that report a half each as those of one captioner.

    Args:
        name: of what they are together.
        parts: half → folder of the cell that reports it.
        out: folder to write to.
        facts: as :func:`write_scores` takes them.
    """
    scored, cells = [], {}
    for half, folder in parts.items():
        metrics, clips = read_scores(folder, half)
        cells[half] = metrics["cell"]
        figures = {key: metrics[key] for key in (*metrics["halves"][half], "metrics")}
        scored.append(SplitScores(half, figures, clips))
    about = {key: metrics[key] for key in ("role", "projector", "seed")}
    write_scores(out, {"cell": name, **about, "parts": cells}, scored, facts or {})


def both_halves(name: str, scored: Sequence[SplitScores]) -> tuple[dict[str, Any], pl.DataFrame]:
    """Figures and rows over both halves, as those of one split called :data:`BOTH`.

    Raises:
        StudyError: a source video has clips in both halves.
    """
    tables = [own.clips for own in scored]
    told = [own.figures for own in scored]
    first, second = (set(table["group"]) for table in tables)
    if shared := first & second:
        raise StudyError(
            f"{name}: source video '{min(shared)}' has clips in both halves; expected each in one."
        )
    # One table; clusters were formed within a half, so they stay apart by number.
    numbered, free = [], 0
    for own in scored:
        cluster = pl.col("cluster") - pl.col("cluster").min() + free
        told_apart = {"cell": pl.lit(name), "split": pl.lit(BOTH), "half": pl.lit(own.split)}
        numbered.append(own.clips.with_columns(cluster, **told_apart))
        free = int(numbered[-1]["cluster"].max() or 0) + 1  # type: ignore[arg-type]
    clips = pl.concat(numbered).sort("id")
    by_clips = _shares([table.height for table in tables])
    values, missing = _values(told, tables, clips, by_clips)
    figures = {
        "n_clips": clips.height,
        "values": values,
        "metrics": {metric: about for own in told for metric, about in own["metrics"].items()},
        "losses": mean_losses(clips),
        "not_computed": missing,
        "notes": {
            key: sum(own["notes"].get(key, 0) for own in told)
            for key in sorted({key for own in told for key in own["notes"]})
        },
        "n_empty": sum(own["n_empty"] for own in told),
        "truncated_share": float(np.dot(by_clips, [own["truncated_share"] for own in told])),
        "temperature": {own.split: own.figures["temperature"] for own in scored},
    }
    return figures, clips


def _shares(counts: Sequence[int]) -> np.ndarray:
    return np.array(counts, dtype=float) / sum(counts)


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
    for name, metric in METRICS.items():
        found = [half["values"].get(name) for half in told]
        enough = any if metric.within_category else all
        if not enough(value is not None for value in found):
            continue
        if metric.per_clip:
            shares = _shares([table.drop_nulls(name)["group"].n_unique() for table in tables])
            value = mean_with_bounds(clips[name], groups, metric)
        else:
            shares = by_clips
            mean = float(np.dot(shares, [half["value"] for half in found if half]))
            value = {"value": mean, "low": None, "high": None}
        for beside in ("reference", "chance"):
            value[beside] = _weighted([half and half[beside] for half in found], shares)
        values[name] = value
        missing.pop(name, None)
    return values, missing


def mean_with_bounds(
    column: pl.Series | np.ndarray, groups: Sequence[str], metric: Metric | None = None
) -> dict[str, float | None]:
    """``{"value", "low", "high"}`` over groups; bounds in the metric's range, None where absent."""
    clips = pl.Series(column, dtype=pl.Float64).fill_null(math.nan).to_numpy()
    share = metric is not None and metric.is_share
    value, low, high = mean_interval(clips, groups, share=share)
    if metric is not None:
        low, high = metric.within_range(low, high)
    told = {"value": value, "low": low, "high": high}
    return {key: number if math.isfinite(number) else None for key, number in told.items()}


def _weighted(values: Sequence[float | None], shares: np.ndarray) -> float | None:
    """Mean of the halves that count; None where one of those has no value."""
    counted = [(value, share) for value, share in zip(values, shares, strict=True) if share > 0]
    if any(value is None for value, _ in counted):
        return None
    return float(sum(value * share for value, share in counted if value is not None))


def mean_losses(clips: pl.DataFrame) -> dict[str, Any] | None:
    """Mean loss of the references (nats a token) and its gaps under wrong videos, from the rows."""
    matched, groups = clips["loss_matched"], clips["group"].to_list()
    if matched.null_count() == clips.height:
        return None
    return {
        "matched": float(matched.to_numpy().mean()),
        "shuffled_gap": mean_with_bounds(clips["loss_shuffled"] - matched, groups),
        "reversed_gap": mean_with_bounds(clips["loss_reversed"] - matched, groups),
    }


# ---- Truth in the demo: what captions say of the facts of a world that is known.


def truth_of(captions: Sequence[str], facts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """κ per attribute with its interval: ``{attribute: {kappa, low, high, accuracy, …}}``."""
    from siglip_study.demo.facts import kappa, parse_facts

    said = [parse_facts(caption) for caption in captions]
    true = [dict(row) for row in facts]
    return {attribute: asdict(kappa(said, true, attribute)) for attribute in true[0]}
