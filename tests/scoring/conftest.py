"""A split with references and two cells, and ways to score it anew."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.scored import StandInScorer, small_manifest, text_vector

from siglip_study.base.io import read_json, write_json
from siglip_study.config.study import ScorerConfig
from siglip_study.scoring.scores import score_captioners
from siglip_study.scoring.split_scorer import Captioner, ScoreModels, ScoreSettings, SplitScorer

IDS = [f"selection-{i}" for i in range(6)]


@pytest.fixture
def manifest() -> pl.DataFrame:
    return small_manifest()


def record(clip: str, caption: str) -> dict:
    return {
        "id": clip,
        "split": clip.partition("-")[0],
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
    """Held-out clips with references and two cells, ``a`` and ``b``, and a way to score them."""

    root: Path
    manifest: pl.DataFrame
    frames: dict[str, np.ndarray]
    scorer: object
    names: tuple[str, ...] = ("b", "a", "references")
    splits: tuple[str, ...] = ("selection",)
    version: int = 1
    facts: Mapping[str, Mapping[str, str]] | None = None
    language: str = "other"
    temperature: float | None = None
    record = staticmethod(record)
    losses = staticmethod(losses)

    def captioner(self, name: str) -> Captioner:
        folder = self.root / name
        return Captioner(name, "references" if name == "references" else "tuning", folder, folder)

    def say(self, name: str, captions: dict[str, str], extra: list[dict] | None = None) -> None:
        records = [record(clip, text) for clip, text in captions.items()] + (extra or [])
        write_json(
            self.root / name / "captions.json", {"cell": name, "records": records}, "captions/1"
        )

    def score(self, scorer: object = None, workers: int = 1) -> None:
        settings = ScoreSettings(ScorerConfig(model="stand-in"), None, self.language, self.version)
        models = ScoreModels(settings, scorer or self.scorer)
        frames = [self.root / f"{split}.safetensors" for split in self.splits]
        scorers = []
        for split, path in zip(self.splits, frames, strict=True):
            if not path.exists():
                path.write_bytes(b"frames")
            own = {c: rows for c, rows in self.frames.items() if c.startswith(split)}
            scorers.append(
                SplitScorer(split, self.manifest, own, models, self.facts, self.temperature)
            )
        captioners = [self.captioner(name) for name in self.names]
        score_captioners(captioners, scorers, frames, self.root / "i.json", workers=workers)

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
def world(tmp_path: Path, manifest: pl.DataFrame) -> World:
    """The selection clips: ``a`` says what the references say, ``b`` something else."""
    rows = manifest.filter(pl.col("split") != "train").to_dicts()
    first = {row["id"]: row["captions"][0] for row in rows}
    noise = np.random.default_rng(0)
    # Frames near their caption: the scorer can tell. Written in the manifest's order, not sorted.
    frames = {
        clip: (text_vector(text) + 0.1 * noise.normal(size=(3, 16))).astype(np.float32)
        for clip, text in sorted(first.items(), key=lambda item: item[0][0] == "r")
    }
    made = World(tmp_path, manifest, frames, StandInScorer())
    made.say("references", first)
    made.say("a", {clip: text + " indeed" for clip, text in first.items()})
    made.say("b", {clip: f"b says {clip}" for clip in first})
    return made
