"""Captioners that train nothing: the nearest training clip's caption, and what sees no clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from siglip_study.base.io import write_json
from siglip_study.metrics import siglip

if TYPE_CHECKING:
    from siglip_study.features.scorer import TextScorer


def nearest(queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest key of each query, and their cosine after removing the keys' mean.

    Args:
        queries: ``[N, D]``.
        keys: ``[M, D]``. Features of one encoder share a large common part; without centring, the
            nearest clip is often the same for all.
    """
    centre = keys.mean(axis=0)

    def unit(x: np.ndarray) -> np.ndarray:
        x = x - centre
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    cosines = unit(queries) @ unit(keys).T
    found = np.argmax(cosines, axis=1)
    return found, cosines[np.arange(len(found)), found]


def pooled_features(folder: Path, ids: Sequence[str]) -> np.ndarray:
    """Frozen features of clips as ``[N, F·V]``: patches averaged, frames kept in order."""
    from siglip_study.features.store import FeatureStore

    store = FeatureStore(folder)
    return np.stack([store[clip].float().mean(dim=1).flatten().numpy() for clip in ids])


def write_retrieval(
    manifest: pl.DataFrame, features: dict[str, Path], splits: Sequence[str], out: Path
) -> None:
    """Caption each held-out clip with the first caption of the training clip that is nearest."""
    train = manifest.filter(split="train")
    keys = pooled_features(features["train"], train["id"].to_list())
    retrieved = []
    for split in splits:
        clips = manifest.filter(split=split)
        found, _ = nearest(pooled_features(features[split], clips["id"].to_list()), keys)
        captions = train["captions"].list.first().gather(found).to_list()
        for clip, caption in zip(clips["id"], captions, strict=True):
            retrieved.append(caption_record(clip, split, caption))
    write_json(out, {"cell": "retrieval", "records": retrieved}, "captions/1")


def caption_record(clip: str, split: str, caption: str) -> dict[str, object]:
    """A record of ``captions/1`` of a captioner that generates nothing."""
    record = {"id": clip, "split": split, "condition": "matched", "caption": caption}
    return {**record, "n_tokens": None, "truncated": False}


# ---- Captioners that see no clip: the best caption for all clips, and the best of each category.
#
# Both are made from train captions and the scorer's embeddings alone. The raw score rewards the
# first; a ranking that either of them could lead would be worth nothing.

#: Split that chooses → split that is captioned with its choice.
OTHER = {"selection": "report", "report": "selection"}


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
    by_category = {}
    for name in sorted({name for name in categories if name is not None}):
        own = [category == name for category in categories]
        by_category[name] = captions[int(scores[:, own].mean(axis=1).argmax())]
    return Favourites(captions[int(scores.mean(axis=1).argmax())], by_category)


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
    train = manifest.filter(split="train").sort("id")["captions"]
    candidates = list(dict.fromkeys(train.explode().to_list()))
    pairs = scorer.caption_embeddings(candidates)
    chunks, weights = [part.numpy() for part, _ in pairs], [part.numpy() for _, part in pairs]
    generic, category = [], []
    for chooses, embedded in frames.items():
        seen = manifest.filter(split=chooses).sort("id")
        images = siglip.clip_vectors([embedded[clip] for clip in seen["id"].to_list()])
        scores = siglip.score_matrix(chunks, weights, images)
        chosen = favourites(candidates, scores, seen["category"].to_list())
        split = OTHER[chooses]
        shown = manifest.filter(split=split)
        clips = list(zip(shown["id"].to_list(), shown["category"].to_list(), strict=True))
        generic += [caption_record(clip, split, chosen.generic) for clip, _ in clips]
        category += [caption_record(clip, split, chosen.of(own)) for clip, own in clips]
    write_json(generic_out, {"cell": "generic", "records": generic}, "captions/1")
    write_json(category_out, {"cell": "category", "records": category}, "captions/1")
