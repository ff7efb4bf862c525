"""What a connector keeps by grain: categories and scenes against attributes, counts and order.

Whether compressing loses detail is asked of the difference "finer less coarse", a clip at a time,
and tested between projectors as the ranking tests margins, at a level shared by the finer grains: a
projector that is worse at everything alike has lost no detail in particular.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from siglip_study.demo.world import GRAINS
from siglip_study.ranking.orders import facts_score
from siglip_study.ranking.pairs import PairTest, pair_tests
from siglip_study.report.controls import WITHIN, M, by_projector
from siglip_study.report.language import NOTHING, Text
from siglip_study.report.wording.claims import grain_sentence
from siglip_study.report.wording.labels import label as say


@dataclass(frozen=True)
class Grain:
    """One projector: tokens of a clip, a value a grain as a share of people's, and what is told of
    a projector that keeps fewer tokens than others."""

    projector: str
    tokens: int
    values: tuple[float, ...]
    sentence: Text = NOTHING


@dataclass(frozen=True)
class GrainView:
    """Every projector by grain, the coarse one first; values are κ of facts, or shares of the human
    captions' margin."""

    of_facts: bool
    columns: tuple[Text, ...]
    rows: tuple[Grain, ...]


def grain_view(
    clips: pl.DataFrame,
    facts: Mapping[str, Mapping[str, str]] | None,
    tokens: Mapping[str, int],
    alpha: float,
) -> GrainView | None:
    """The view of a study; ``None`` with one projector, or where no grain is known.

    ``clips`` are rows of report runs and references, ``facts`` id → true facts (in the demo only),
    and ``tokens`` those of a clip, by projector, in the order of the answer.
    """
    scores: dict[str, list[np.ndarray]] | None
    if facts:
        names, scores = list(GRAINS), _kappas(clips, facts)
    else:
        # Clips without company in their category say nothing.
        clips = clips.filter(pl.col(WITHIN[0]).is_not_null().all().over("id"))
        names, scores = ["all", "within"], _margins(clips)
    if scores is None or len(tokens) < 2:
        return None
    # projector → [S, G] of each grain, coarse first.
    tables = [
        by_projector(clips, {cell: own[i] for cell, own in scores.items()})
        for i in range(len(names))
    ]
    columns = tuple(say(f"grain.{name}") for name in names)
    most = max(tokens.values())
    # Of those that keep as many tokens, the first in the order of the answer.
    keeper = next(label for label in tokens if tokens[label] == most)
    against: dict[str, dict[Text, PairTest]] = {label: {} for label in tokens}
    for column, own in zip(columns[1:], tables[1:], strict=True):
        detail = {label: own[label] - tables[0][label] for label in tokens}
        for test in pair_tests(detail, alpha / len(tables[1:])):
            if keeper in (test.a, test.b):
                against[test.b if test.a == keeper else test.a][column] = test
    return GrainView(
        of_facts=bool(facts),
        columns=columns,
        rows=tuple(
            Grain(
                label,
                tokens[label],
                tuple(float(own[label].mean()) for own in tables),
                grain_sentence(label, keeper, against[label]) if tokens[label] < most else NOTHING,
            )
            for label in tokens
        ),
    )


def _kappas(
    clips: pl.DataFrame, facts: Mapping[str, Mapping[str, str]]
) -> dict[str, list[np.ndarray]]:
    """Report run → what each clip adds to its mean κ, a row a grain."""
    found = {}
    for (cell,), own in clips.filter(role="report").sort("id").group_by("cell"):
        true = [facts[clip] for clip in own["id"]]
        found[str(cell)] = [
            facts_score(own["caption"].to_list(), true, names) for names in GRAINS.values()
        ]
    return found


def _margins(clips: pl.DataFrame) -> dict[str, list[np.ndarray]] | None:
    """Report run → M over all clips and within the category, each over people's mean; ``None``
    where theirs are not above 0."""
    human = clips.filter(role="references")
    scales = {name: human[name].to_numpy() for name in (M, WITHIN[0])}
    if any(own.size == 0 or own.mean() <= 0 for own in scales.values()):
        return None
    return {
        str(cell): [own[name].to_numpy() / scale.mean() for name, scale in scales.items()]
        for (cell,), own in clips.filter(role="report").sort("id").group_by("cell")
    }
