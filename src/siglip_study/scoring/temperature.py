"""The temperature of ``bits``, fitted on references of clips that it does not score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from siglip_study.metrics import grounding, siglip
from siglip_study.ranking.scorer_check_file import TextScorer


def fit_on_references(
    manifest: pl.DataFrame, split: str, frames: Mapping[str, np.ndarray], scorer: TextScorer
) -> float:
    """Temperature at which the references of a split identify their clips best.

    Args:
        manifest: all splits.
        split: whose references are asked; under cross-fitting the half that is not scored.
        frames: the scorer's frame embeddings of that split, id → ``[F, E]``.
        scorer: embeds captions.
    """
    clips = manifest.filter(pl.col("split") == split).sort("id")
    pairs = scorer.caption_embeddings([texts[0] for texts in clips["captions"].to_list()])
    made = siglip.Chunks(
        [chunks.numpy() for chunks, _ in pairs], [weights.numpy() for _, weights in pairs]
    )
    images = siglip.clip_vectors([frames[clip] for clip in clips["id"].to_list()])
    return float(grounding.fit_temperature(siglip.score_matrix(made, None, images)))
