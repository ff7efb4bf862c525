"""Every metric that has a value a clip: means with intervals, and where its variance comes from.

Nothing here is tested: the margin M alone ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.metrics import METRICS
from siglip_study.ranking.scores import Components, MeanInterval, components, mean_intervals
from siglip_study.ranking.within import known_group_means

#: The metric that ranks.
MARGIN = "standardised_margin"


@dataclass(frozen=True)
class MetricFigures:
    """One metric on the report split.

    Attributes:
        metric: its name.
        means: of every projector, with intervals at 1 − alpha that carry clips and seeds; Wilson's
            where a clip's value is in [0, 1].
        components: ``None`` with one projector, seed or source video.
    """

    metric: str
    means: tuple[MeanInterval, ...]
    components: Components | None


def metric_figures(
    values: Mapping[str, Mapping[str, ArrayLike]], groups: Sequence[str], alpha: float = 0.05
) -> tuple[MetricFigures, ...]:
    """Figures of every metric of ``{projector: {metric: [S, n]}}``, NaN where a clip has no value.

    A metric that some projector lacks is left out, and so are source videos in which some run has
    no value: all projectors are measured on the same ones.

    Args:
        values: with the same S and clips for all projectors.
        groups: source video of each of the n clips.
        alpha: level of the intervals.
    """
    shared = [
        metric
        for metric in next(iter(values.values()), {})
        if all(metric in own for own in values.values())
    ]
    found = []
    for metric in shared:
        tables = {
            label: known_group_means(own[metric], groups)  # [S, G]
            for label, own in values.items()
        }
        known = np.all([np.isfinite(table).all(axis=0) for table in tables.values()], axis=0)
        if not known.any():
            continue
        scores = {label: table[:, known] for label, table in tables.items()}
        share = metric in METRICS and METRICS[metric].is_share
        means = tuple(mean_intervals(scores, alpha, share))
        found.append(MetricFigures(metric, means, components(scores)))
    return tuple(found)
