"""Clips, a scorer and scored folders small enough to work out by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.metrics.grounding import mean_interval
from siglip_study.scoring.score_files import SplitScores, mean_losses, write_scores

WIDTH = 16
HALVES = ("selection", "report")


def text_vector(text: str) -> np.ndarray:
    """A unit vector that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    vector = np.random.default_rng(seed).normal(size=WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class StandInScorer:
    """What ``Scorer`` offers, by hashing instead of a network: one chunk a caption."""

    logit_scale, logit_bias = 10.0, -3.0

    def caption_embeddings(self, captions: Sequence[str]):
        import torch

        return [
            (torch.from_numpy(text_vector(c))[None], torch.ones(1))
            if c
            else (torch.zeros(0, WIDTH), torch.zeros(0))
            for c in captions
        ]

    def published_embeddings(self, captions: Sequence[str]):
        import torch

        return torch.from_numpy(np.stack([text_vector(c) for c in captions]))


def small_manifest() -> pl.DataFrame:
    """Five train, six selection and four report clips; the rows do not stand in order of ids."""
    rows = []
    for split, numbers in (("report", range(4)), ("selection", range(6)), ("train", range(5))):
        for i in reversed(numbers):
            first = f"{split} clip {i} shows thing {i * 7}"
            rows.append(
                {
                    "id": f"{split}-{i}",
                    "split": split,
                    "group": f"{split}-video-{i // 2}" if split == "report" else f"{split}-{i}",
                    "category": "ab"[i % 2],
                    "captions": [first, f"another sentence for {split} {i}"],
                }
            )
    return pl.DataFrame(rows)


def split_scores(
    margins: Sequence[float],
    split: str = "report",
    *,
    effective: float = 0.9,
    top_share: float = 0.05,
    groups: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    within: Sequence[float | None] | None = None,
) -> SplitScores:
    """A captioner's scores with margins by hand; the wrong video costs as much as the margin."""
    ids = list(ids or (f"{split}{i:02d}" for i in range(len(margins))))
    groups = list(groups or ids)
    mean, low, high = mean_interval(np.asarray(margins, dtype=float), groups)

    def value(number: float, **more: float | None) -> dict[str, float | None]:
        return {"value": number, "low": None, "high": None, "reference": 0.5, "chance": None} | more

    values = {
        "effective_captions": value(effective),
        "top_cluster_share": value(top_share),
        "grounding_margin": value(mean, low=low, high=high, chance=0.0),
        "standardised_margin": value(mean, low=low, high=high, chance=0.0),
        "sentences": value(2.0),
    }
    clips = pl.DataFrame(
        {
            "cell": "x",
            "id": ids,
            "split": split,
            "group": groups,
            "category": pl.Series([None] * len(ids), dtype=pl.String),
            "caption": [f"a {clip}" for clip in ids],
            "cluster": range(len(ids)),
            # In made-up scores an SD is 1, so that M is D.
            "grounding_margin": [float(margin) for margin in margins],
            "grounding_margin_within": pl.Series(within or [None] * len(ids), dtype=pl.Float64),
            "standardised_margin": [float(margin) for margin in margins],
            "standardised_margin_within": pl.Series(within or [None] * len(ids), dtype=pl.Float64),
            "sentences": 2.0,
            "loss_matched": 1.0,
            "loss_shuffled": [1.0 + float(margin) for margin in margins],
            "loss_reversed": 1.0,
        }
    )
    figures = {
        "n_clips": len(ids),
        "values": values,
        "metrics": {name: {"version": "1"} for name in values},
        "losses": mean_losses(clips),
        "not_computed": {"bertscore_f1": "no model"},
        "notes": {"cut": 1},
        "n_empty": 1,
        "truncated_share": 0.25 if split == "selection" else 0.0,
        "temperature": 0.1,
    }
    return SplitScores(split, figures, clips)


def write_captioner(folder: Path, *scored: SplitScores, cell: str = "x", **about: Any) -> Path:
    """Its files, as the scoring job leaves them; returns the folder."""
    told = {"cell": cell, "role": "report", "projector": "x", "seed": 1} | about
    write_scores(folder, told, scored, {})
    return folder
