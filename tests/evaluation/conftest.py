"""Splits, cells and scored folders small enough to work out by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

WIDTH = 16


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


class Unusable:
    """A scorer that must not be needed."""

    def __getattr__(self, name: str):
        raise AssertionError(f"the scorer was used ({name}) although nothing changed")


@pytest.fixture
def stand_in():
    return StandInScorer()


@pytest.fixture
def unusable():
    return Unusable()


@pytest.fixture
def embed():
    return text_vector


@pytest.fixture
def manifest() -> pl.DataFrame:
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


@pytest.fixture
def write_scored():
    """Write what ranking and selection read of a scored cell, with margins by hand."""

    def write(
        folder: Path,
        margins: Sequence[float],
        effective: float = 0.9,
        top_share: float = 0.05,
        groups: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        order: Sequence[int] | None = None,
        matrix: np.ndarray | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        n = len(margins)
        ids = ids or [f"clip{i:02d}" for i in range(n)]
        table = pl.DataFrame(
            {
                "id": ids,
                "group": groups or ids,
                "category": pl.Series([None] * n, dtype=pl.String),
                "grounding_margin": [float(m) for m in margins],
            }
        )
        table[list(order) if order is not None else list(range(n))].write_parquet(
            folder / "clips.parquet"
        )
        values = {
            "effective_captions": effective,
            "top_cluster_share": top_share,
            "grounding_margin": float(np.mean(margins)),
        }
        metrics = {
            "schema": "metrics/1",
            "values": {name: {"value": value} for name, value in values.items()},
            "truncated_share": 0.0,
        }
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        if matrix is not None:
            from safetensors.numpy import save_file

            save_file({"matrix": matrix}, folder / "matrix.safetensors")
        return folder

    return write
