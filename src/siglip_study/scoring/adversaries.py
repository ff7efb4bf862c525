"""Captioners that see no clip: the best caption for all clips, and the best of each category.

Both are made from train captions and the scorer's embeddings alone. The raw score rewards the
first; a ranking that either of them could lead would be worth nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from siglip_study.base.io import write_json
from siglip_study.metrics import siglip
from siglip_study.scoring.baselines import caption_record

#: Split that chooses → split that is captioned with its choice.
OTHER = {"selection": "report", "report": "selection"}


class TextScorer(Protocol):
    """What is needed of the scorer: sentence chunks of each caption and their lengths."""

    def caption_embeddings(self, captions: Sequence[str]) -> list[tuple]: ...


@dataclass(frozen=True)
class Favourites:
    """The caption that fits all clips best on average, and the same for each category."""

    generic: str
    by_category: dict[str, str]

    def of(self, category: str | None) -> str:
        """The caption for a clip of a category; the generic one for a category never met."""
        return self.by_category.get(category, self.generic) if category else self.generic


def favourites(
    captions: Sequence[str], scores: np.ndarray, categories: Sequence[str | None]
) -> Favourites:
    """Pick the captions with the highest mean score, over all clips and over those of a category.

    Args:
        captions: M candidates, in an order that settles ties.
        scores: cosine of each candidate with each clip, ``[M, N]``.
        categories: N categories of the clips, or None.
    """
    names = sorted({name for name in categories if name is not None})
    columns = {name: [own == name for own in categories] for name in names}
    return Favourites(
        captions[int(scores.mean(axis=1).argmax())],
        {
            name: captions[int(scores[:, column].mean(axis=1).argmax())]
            for name, column in columns.items()
        },
    )


def write_adversaries(
    manifest: pl.DataFrame,
    frames: Mapping[str, Mapping[str, np.ndarray]],
    scorer: TextScorer,
    generic_out: Path,
    category_out: Path,
) -> None:
    """Choose among the train captions on one held-out split; caption the other with the choice.

    Args:
        manifest: all splits.
        frames: split that chooses → the scorer's frame embeddings of its clips, id → ``[F, E]``.
            ``selection`` chooses for ``report``; with both, each chooses for the other.
        scorer: embeds captions.
        generic_out: ``captions/1`` of the captioner that says the same of every clip.
        category_out: ``captions/1`` of the one that knows the category alone.
    """
    train = manifest.filter(pl.col("split") == "train").sort("id")["captions"].to_list()
    candidates = list(dict.fromkeys(text for texts in train for text in texts))
    pairs = scorer.caption_embeddings(candidates)
    chunks, weights = [part.numpy() for part, _ in pairs], [part.numpy() for _, part in pairs]
    generic, category = [], []
    for chooses, embedded in frames.items():
        seen = manifest.filter(pl.col("split") == chooses).sort("id")
        images = siglip.clip_vectors([embedded[clip] for clip in seen["id"].to_list()])
        scores = siglip.score_matrix(chunks, weights, images)
        chosen = favourites(candidates, scores, seen["category"].to_list())
        split = OTHER[chooses]
        shown = manifest.filter(pl.col("split") == split)
        clips = list(zip(shown["id"].to_list(), shown["category"].to_list(), strict=True))
        generic += [caption_record(clip, split, chosen.generic) for clip, _ in clips]
        category += [caption_record(clip, split, chosen.of(own)) for clip, own in clips]
    write_json(generic_out, {"cell": "generic", "records": generic}, "captions/1")
    write_json(category_out, {"cell": "category", "records": category}, "captions/1")
