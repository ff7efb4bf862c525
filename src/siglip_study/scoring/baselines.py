"""Captioners that train nothing: the human references, and the nearest training clip's caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from siglip_study.base.io import write_json


def nearest(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Index of the nearest key of each query, by cosine after removing the keys' mean.

    Args:
        queries: ``[N, D]``.
        keys: ``[M, D]``. Features of one encoder share a large common part; without centring, the
            nearest clip is often the same for all.
    """
    centre = keys.mean(axis=0)

    def unit(x: np.ndarray) -> np.ndarray:
        x = x - centre
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    return np.argmax(unit(queries) @ unit(keys).T, axis=1)


def clip_vectors(folder: Path, ids: Sequence[str]) -> np.ndarray:
    """Frozen features of clips as ``[N, F·V]``: patches averaged, frames kept in order."""
    from siglip_study.features.store import FeatureStore

    store = FeatureStore(folder)
    return np.stack([store[clip].float().mean(dim=1).flatten().numpy() for clip in ids])


def write_baselines(
    manifest: pl.DataFrame,
    features: dict[str, Path],
    splits: Sequence[str],
    references_out: Path,
    retrieval_out: Path,
) -> None:
    """Write ``captions/1`` files of both baselines over the held-out splits."""
    by_split = {split: manifest.filter(pl.col("split") == split) for split in ("train", *splits)}
    train = by_split["train"]
    keys = clip_vectors(features["train"], train["id"].to_list())
    train_captions = [captions[0] for captions in train["captions"].to_list()]
    references, retrieved = [], []
    for split in splits:
        ids = by_split[split]["id"].to_list()
        found = nearest(clip_vectors(features[split], ids), keys)
        for clip, captions, index in zip(
            ids, by_split[split]["captions"].to_list(), found, strict=True
        ):
            references.append(caption_record(clip, split, captions[0]))
            retrieved.append(caption_record(clip, split, train_captions[int(index)]))
    for name, records, path in (
        ("references", references, references_out),
        ("retrieval", retrieved, retrieval_out),
    ):
        write_json(path, {"cell": name, "records": records}, "captions/1")


def caption_record(clip: str, split: str, caption: str) -> dict[str, object]:
    """A record of ``captions/1`` of a captioner that generates nothing."""
    return {
        "id": clip,
        "split": split,
        "condition": "matched",
        "caption": caption,
        "n_tokens": None,
        "truncated": False,
    }
