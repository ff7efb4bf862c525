"""Splits, cells and scored folders small enough to work out by hand."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siglip_study.base.io import read_json, write_json
from siglip_study.config.study import ScorerConfig
from siglip_study.scoring.cell_scores import Captioner
from siglip_study.scoring.scores import score_split
from siglip_study.scoring.split_scorer import ScoreSettings, SplitScorer

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
        within: Sequence[float | None] | None = None,
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
                "grounding_margin_within": pl.Series(within or [None] * n, dtype=pl.Float64),
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


IDS = [f"selection-{i}" for i in range(6)]


def record(clip: str, caption: str, split: str = "selection") -> dict:
    return {
        "id": clip,
        "split": split,
        "condition": "matched",
        "caption": caption,
        "n_tokens": len(caption),
        "truncated": clip.endswith("0"),
    }


def losses(matched: float = 1.0) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame(
            {
                "id": IDS[::-1],
                "split": "selection",
                "condition": condition,
                "loss": [matched + i + more for i in reversed(range(6))],
                "n_tokens": 5,
            }
        )
        for condition, more in (("matched", 0.0), ("shuffled", 0.5), ("reversed", -0.25))
    )


@dataclass
class World:
    """A split with references and two cells, ``a`` and ``b``, and a way to score it anew."""

    root: Path
    manifest: pl.DataFrame
    frames: dict[str, np.ndarray]
    scorer: object
    names: tuple[str, ...] = ("b", "a", "references")
    version: int = 1
    facts: dict | None = None
    language: str = "other"
    record = staticmethod(record)
    losses = staticmethod(losses)

    def captioner(self, name: str) -> Captioner:
        role = "references" if name == "references" else "tuning"
        return Captioner(name, role, self.root / name, self.root / name / "captions.json")

    def say(self, name: str, captions: dict[str, str], extra: list[dict] | None = None) -> None:
        records = [record(clip, text) for clip, text in captions.items()] + (extra or [])
        path = self.captioner(name).captions
        write_json(path, {"cell": name, "records": records}, "captions/1")

    def split_scorer(self, scorer: object = None) -> SplitScorer:
        made = SplitScorer(
            "selection",
            self.manifest,
            self.frames,
            ScoreSettings(ScorerConfig(model="stand-in"), None, self.language, self.version),
            self.facts,
            None,
        )
        made._scorer = scorer or self.scorer
        return made

    def score(self, scorer: object = None) -> SplitScorer:
        frames = self.root / "frames.safetensors"
        if not frames.exists():
            frames.write_bytes(b"frames")
        made = self.split_scorer(scorer)
        score_split([self.captioner(n) for n in self.names], made, frames, self.root / "i.json")
        return made

    def age(self) -> None:
        for path in self.root.rglob("*"):
            os.utime(path, ns=(10**18, 10**18))

    def rewritten(self) -> set[str]:
        """Captioners whose scores are younger than :meth:`age`, both files or none."""
        young = {
            name: {
                (self.root / name / file).stat().st_mtime_ns > 10**18
                for file in ("metrics.json", "clips.parquet")
            }
            for name in self.names
        }
        assert all(len(values) == 1 for values in young.values())
        return {name for name, values in young.items() if values == {True}}

    def metrics(self, name: str) -> dict:
        return read_json(self.root / name / "metrics.json", "metrics/1")

    def clips(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.root / name / "clips.parquet")

    def contents(self) -> dict[str, bytes]:
        return {
            f"{name}/{file}": (self.root / name / file).read_bytes()
            for name in self.names
            for file in ("metrics.json", "clips.parquet")
        }


@pytest.fixture
def world(tmp_path, manifest, embed, stand_in) -> World:
    rows = manifest.filter(pl.col("split") == "selection").to_dicts()
    first = {row["id"]: row["captions"][0] for row in rows}
    noise = np.random.default_rng(0)
    # Frames near their caption: the scorer can tell. Written in the manifest's order, not sorted.
    frames = {
        clip: (embed(text) + 0.1 * noise.normal(size=(3, 16))).astype(np.float32)
        for clip, text in first.items()
    }
    made = World(tmp_path, manifest, frames, stand_in)
    made.say("references", first, [record("report-0", "of another split", "report")])
    made.say("a", {clip: text + " indeed" for clip, text in first.items()})
    made.say("b", {clip: f"b says {clip}" for clip in first})
    return made
