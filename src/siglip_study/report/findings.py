"""The strongest findings in sentences: what stands above the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siglip_study.ranking.procedure import Ranking
from siglip_study.report import wording
from siglip_study.report.controls import EXPECTATIONS, M
from siglip_study.report.evidence import pair_views
from siglip_study.report.first_screen import motion_known
from siglip_study.report.language import Text
from siglip_study.report.results import ROLES, CellResult
from siglip_study.report.wording import headline

#: Claimed differences that are told one by one; of more it says how many.
CLAIMS = 4


def findings(
    ranking: Ranking,
    controls: Sequence[dict[str, Any]],
    cells: list[CellResult],
    measures: Text | None,
) -> tuple[Text, ...]:
    """Claims first, then what the score does not see, then what came out otherwise than it must.

    Args:
        ranking: of the study.
        controls: rows of the ``controls`` table.
        cells: every captioner.
        measures: the sentence on other measures, if there are any.
    """
    claimed = [view.test for view in pair_views(ranking) if view.better is not None]
    told = [wording.claim_sentence(test) for test in claimed[:CLAIMS]]
    if len(claimed) > CLAIMS:
        told.append(wording.more_claims(len(claimed) - CLAIMS))
    if not claimed and ranking.pairs:
        told.append(wording.answer(ranking))
    told.append(headline.blind_sentence(ranking, motion_known(cells)))
    told += [
        wording.control_failed(ROLES[row["role"]], EXPECTATIONS[row["role"]], row["gate"])
        for row in controls
        if row["metric"] == M and row["as_expected"] is False
    ]
    if ranking.retrieval is not None:
        told.append(wording.copying_sentence(ranking.retrieval.cleared_by, len(ranking.projectors)))
    if measures is not None:
        told.append(measures)
    return tuple(text for text in told if text)
