"""What a metric says about itself, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MetricInfo:
    """Name, version, unit, range and direction of one metric.

    Attributes:
        name: exact key in ``metrics.json`` and, where the metric is per clip, in ``clips.parquet``.
        version: raised whenever the same captions would score differently.
        unit: unit of the value, ``"1"`` for a pure number.
        min_value: least value that can occur; None if unbounded.
        max_value: greatest value that can occur; None if unbounded.
        higher_is_better: None where neither direction is good (a length ratio).
        tokenizer: which tokens it reads: ``"content"``, ``"all"``, ``"characters"``, ``"words"``,
            ``"model"`` (a model's own), or None if it reads no tokens.
        description: one sentence for the report.
        chance: value of a captioner that knows nothing, where it is a constant of the definition.
    """

    name: str
    version: str
    unit: str
    min_value: float | None
    max_value: float | None
    higher_is_better: bool | None
    tokenizer: str | None
    description: str
    chance: float | None = None

    def as_json(self, tokenizer: str | None) -> dict[str, Any]:
        """The metadata that ``metrics/1`` stores, with the tokenizer under its full name."""
        return {
            "version": self.version,
            "unit": self.unit,
            "min": self.min_value,
            "max": self.max_value,
            "higher_is_better": self.higher_is_better,
            "tokenizer": tokenizer,
        }


@dataclass(frozen=True)
class MetricResult:
    """A metric over a split, and per clip where it is defined for a single clip.

    Attributes:
        corpus: value over all captions.
        per_clip: ``[N]`` float64, NaN where undefined for that clip; None for corpus metrics.
    """

    corpus: float
    per_clip: np.ndarray | None
