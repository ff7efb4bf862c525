"""Where the metrics of one cell come together, each with an interval or a reason for no value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from siglip_study.metrics.grounding import mean_interval
from siglip_study.metrics.registry import METRICS


@dataclass(frozen=True)
class Scores:
    """What ``score_captions`` found.

    Attributes:
        values: ``{metric: {"value", "low", "high", "reference", "chance"}}`` of ``metrics/1``.
        clips: columns id, group, category, caption, cluster and ``score.CLIP_METRICS``.
        metrics: metadata of each metric in ``values``.
        not_computed: why a metric has no value.
        n_empty: number of empty captions.
        notes: counts that belong beside the values (texts that BERTScore had to cut).
    """

    values: dict[str, dict[str, float | None]]
    clips: pl.DataFrame
    metrics: dict[str, dict[str, Any]]
    not_computed: dict[str, str]
    n_empty: int
    notes: dict[str, int] = field(default_factory=dict)


class Collector:
    """Gathers values and reasons; a metric ends in one of the two, never in neither.

    Attributes:
        groups: source video of each clip; intervals are over these.
        reference: the values of the references' own captions, to stand beside each value.
        values: the ``"values"`` part of ``metrics/1``.
        columns: per-clip values, ``[N]`` each.
        why: reason for each metric that has no value.
    """

    def __init__(self, groups: Sequence[str], reference: Mapping[str, Mapping[str, Any]]) -> None:
        self.groups = groups
        self.reference = reference
        self.values: dict[str, dict[str, float | None]] = {}
        self.columns: dict[str, np.ndarray] = {}
        self.why: dict[str, str] = {}

    def corpus(self, name: str, value: float, chance: float | None = None) -> None:
        """Record a metric that exists for the whole split only."""
        self._set(name, value, math.nan, math.nan, chance)

    def clips(self, name: str, per_clip: np.ndarray, chance: float | None = None) -> None:
        """Record a metric per clip (NaN where undefined), its mean over groups and interval."""
        self.columns[name] = np.asarray(per_clip, dtype=np.float64)
        value, low, high = mean_interval(self.columns[name], self.groups)
        self._set(name, value, low, high, chance)

    def skip(self, why: str, *names: str) -> None:
        """Record why metrics have no value."""
        self.why.update(dict.fromkeys(names, why))

    def _set(self, name: str, value: float, low: float, high: float, chance: float | None) -> None:
        if not math.isfinite(value):
            self.skip("no clip has a value", name)
            return
        beside = self.reference.get(name, {}).get("value")
        info = METRICS[name]
        # A t interval does not know that a share ends at 1; no value beyond the range is possible.
        if info.min_value is not None:
            low = max(low, info.min_value) if math.isfinite(low) else low
        if info.max_value is not None:
            high = min(high, info.max_value) if math.isfinite(high) else high
        self.values[name] = {
            "value": value,
            "low": low if math.isfinite(low) else None,
            "high": high if math.isfinite(high) else None,
            "reference": beside,
            "chance": info.chance if chance is None else chance,
        }
