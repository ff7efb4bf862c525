"""The scorer check of a study: human captions of the held-out clips, before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json
from siglip_study.config.study import ScorerConfig
from siglip_study.metrics import siglip
from siglip_study.metrics.ids import check_same_ids
from siglip_study.ranking.scorer_check import Block, ScorerCheck, check_blocks, check_scorer

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

log = logging.getLogger(__name__)

#: The split whose figures are published: its verdict is the study's. Under cross-fitting both
#: halves are, and decide together.
DECIDES, BOTH = "report", "held_out"


class TextScorer(Protocol):
    """The part of :class:`~siglip_study.features.scorer.Scorer` that is needed here."""

    def caption_embeddings(self, captions: list[str]) -> Sequence[tuple[Tensor, Tensor]]:
        """Unit embeddings of a caption's chunks, and the chunks' weights."""


def check_references(
    manifest: pl.DataFrame,
    frames: Mapping[str, Mapping[str, np.ndarray]],
    scorer: TextScorer,
    settings: ScorerConfig,
    alpha: float,
    out: Path,
    cross_fit: bool = False,
) -> dict[str, Any]:
    """Judge the scorer on each held-out split, write ``scorer_check.json``, say one sentence.

    Args:
        manifest: all splits.
        frames: split → id → the scorer's frame embeddings ``[F, E]``; must hold ``report``.
        scorer: embeds the human captions.
        settings: which scorer it is.
        alpha: level.
        out: the JSON file, schema ``scorer_check/1``.
        cross_fit: the splits are halves of one and both are reported: judge them together too.

    Raises:
        StudyError: embeddings and manifest name different clips, or a split has fewer than 2 (a
            half that is reported: 3).
    """
    blocks = {split: _block(manifest, split, found, scorer) for split, found in frames.items()}
    checks = {split: check_scorer(*block, alpha) for split, block in blocks.items()}
    if cross_fit:
        for half, check in checks.items():
            if check.n_clips < 3:
                raise StudyError(
                    f"data.splits.held_out: half '{half}' has {check.n_clips} clips, which have "
                    "the same D by definition; expected at least 3 in each half."
                )
        checks[BOTH] = check_blocks(list(blocks.values()), alpha)
    deciding = BOTH if cross_fit else DECIDES
    decides = checks[deciding]
    body = {
        "model": settings.model,
        "revision": settings.revision,
        "alpha": alpha,
        "decides": deciding,
        "can_tell": decides.can_tell,
        "sentence": decides.sentence,
        "splits": {split: asdict(check) for split, check in checks.items()},
    }
    write_json(out, body, "scorer_check/1")
    log.info("%s: %s", settings.model, decides.sentence)
    return body


def _block(
    manifest: pl.DataFrame, split: str, frames: Mapping[str, np.ndarray], scorer: TextScorer
) -> Block:
    """Scores of a split's references ``[n, n]``, source videos and categories."""
    clips = manifest.filter(pl.col("split") == split).sort("id")
    ids = clips["id"].to_list()
    check_same_ids(ids, frames, "the manifest", "the scorer's features")
    if len(ids) < 2:
        raise StudyError(
            f"split '{split}' has {len(ids)} usable clips; expected at least 2, so that a caption "
            "can be tried on another clip."
        )
    embedded = scorer.caption_embeddings([texts[0] for texts in clips["captions"].to_list()])
    chunks = [part.numpy() for part, _ in embedded]
    weights = [part.numpy() for _, part in embedded]
    matrix = siglip.score_matrix(
        chunks, weights, siglip.clip_vectors([frames[clip] for clip in ids])
    )
    return matrix, clips["group"].to_list(), clips["category"].to_list()


def verdict(check: Path, stop_if_blind: bool) -> str:
    """The sentence of ``scorer_check.json``, if training may begin.

    Raises:
        StudyError: the scorer cannot tell, and the config says to stop then.
    """
    told = read_json(check, "scorer_check/1")
    if stop_if_blind and not told["can_tell"]:
        raise StudyError(
            f"scorer '{told['model']}': {str(told['sentence']).rstrip('.')}. Nothing was trained; "
            "expected a scorer that can tell, or `scorer.stop_if_blind: false` to train without "
            f"hope of a verdict (figures: {check})."
        )
    return str(told["sentence"])


def read_check(path: Path) -> ScorerCheck:
    """The deciding split's check, as :func:`check_references` wrote it."""
    from siglip_study.ranking.scorer_check import SwapPoint
    from siglip_study.ranking.within import WithinSpread

    body = read_json(path, "scorer_check/1")
    told = body["splits"][body.get("decides", DECIDES)]
    within = told.get("within")
    parts = {
        "swapped": tuple(SwapPoint(**point) for point in told["swapped"]),
        "within": None if within is None else WithinSpread(**within),
    }
    return ScorerCheck(**{**told, **parts})
