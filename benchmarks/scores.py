"""Scoring a large study: every metric of 100 cells of 1,000 clips, and the ranking, on a CPU.

The captions are Korean sentences of the demo's world, 300 to 700 characters a caption; the
scorer's embeddings are made up and stand for cached ones: their making is not counted. Everything
else is the study's own path, from ``captions.json`` to ``ranking.json``.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import torch

from benchmarks.inputs import FULL, SEED, Size
from benchmarks.tables import Result, Table
from siglip_study.base.io import write_json
from siglip_study.config.study import ScorerConfig
from siglip_study.demo.captions import caption
from siglip_study.demo.world import category, sample_scene
from siglip_study.metrics.base import METRICS, Metric
from siglip_study.metrics.siglip import clip_vectors
from siglip_study.ranking.from_scores import rank_projectors
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.selection import Selection, StudySelection
from siglip_study.scoring import score_captions, split_scorer
from siglip_study.scoring.scores import score_captioners
from siglip_study.scoring.split_scorer import (
    Captioner,
    ScoreModels,
    ScoreSettings,
    SplitScorer,
    score_captioner,
)

SEEDS = 5  # runs a projector
CHUNKS = 24  # most of a caption


@dataclass(frozen=True)
class Shape:
    """How large the study is."""

    cells: int
    clips: int
    train: int
    frames: int
    width: int  # of an embedding
    characters: tuple[int, int]  # of a caption


STUDY = Shape(100, 1000, 1000, 8, 1152, (300, 700))
SMALL = Shape(10, 12, 12, 2, 16, (60, 120))


@dataclass
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Any:
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def around(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """``work``, timed at every call."""

        @functools.wraps(work)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return work(*args, **kwargs)

        return timed


class CachedEmbeddings:
    """Stands in for ``Scorer``: chunk embeddings near the own clip's, one a sentence.

    They are drawn once; each captioner's are others of them, so that reading them costs nothing.
    """

    logit_scale, logit_bias = 112.0, -16.0

    def __init__(self, images: np.ndarray) -> None:
        generator = np.random.default_rng(SEED)
        clips, width = images.shape
        noise = generator.standard_normal((clips, 2 * CHUNKS, width), dtype=np.float32)
        self._rows = torch.from_numpy(images.astype(np.float32)[:, None] + noise * 2 / width**0.5)
        self._lengths = torch.full((CHUNKS,), 16.0)
        self._calls = 0

    def caption_embeddings(self, captions: Sequence[str]) -> list[tuple[Any, Any]]:
        """Chunks ``[C, E]`` and their lengths ``[C]`` of each caption."""
        self._calls += 1
        first = self._calls % CHUNKS
        counts = [min(text.count(". ") + 1, CHUNKS) for text in captions]
        return [
            (rows[first : first + n], self._lengths[:n])
            for rows, n in zip(self._rows, counts, strict=True)
        ]

    def published_embeddings(self, captions: Sequence[str]) -> Any:
        """One vector a caption ``[N, E]``."""
        return self._rows[:, self._calls % CHUNKS]


def korean_caption(generator: np.random.Generator, low: int, high: int) -> tuple[str, str]:
    """Sentences of the demo's world, ``low`` to ``high`` characters, and the first one's thing."""
    wanted = int(generator.integers(low, high - 60 if high - low > 120 else low + 1))
    text, kind = "", None
    while len(text) < wanted:
        scene = sample_scene(generator, "clips")
        kind = kind or category(scene)
        text = f"{text} {caption(scene, generator)}".strip()
    return text, str(kind)


def write_study(root: Path, shape: Shape) -> tuple[pl.DataFrame, list[Captioner]]:
    """Manifest and captions of every cell, of the references and of the retrieval baseline."""
    generator = np.random.default_rng(SEED)
    rows = []
    for split, n in (("train", shape.train), ("report", shape.clips)):
        for i in range(n):
            text, kind = korean_caption(generator, *shape.characters)
            row = {"id": f"{split}-{i:04d}", "split": split, "category": kind, "captions": [text]}
            rows.append({**row, "group": f"{split}-video-{i // 2}"})
    manifest = pl.DataFrame(rows)
    clips = manifest.filter(pl.col("split") == "report")
    roles = {"references": "references", "retrieval": "control_retrieval"}
    names = [*roles, *(f"cell_{i:03d}" for i in range(shape.cells))]
    captioners = []
    for name in names:
        folder = root / "runs" / name
        folder.mkdir(parents=True)
        records = [
            {
                "id": clip,
                "split": "report",
                "condition": "matched",
                "caption": texts[0]
                if name == "references"
                else korean_caption(generator, *shape.characters)[0],
                "n_tokens": 200,
                "truncated": False,
            }
            for clip, texts in zip(clips["id"], clips["captions"].to_list(), strict=True)
        ]
        write_json(folder / "captions.json", {"cell": name, "records": records}, "captions/1")
        captioners.append(Captioner(name, roles.get(name, "report"), folder, folder))
    return manifest, captioners


def run(size: Size, device: torch.device, shape: Shape | None = None) -> Result:
    """Score and rank a made-up study, cold and once more with the tokens kept."""
    shape = shape or (STUDY if size is FULL else SMALL)
    cores = len(os.sched_getaffinity(0))
    result = Result()
    whole = Table(
        f"{shape.cells} cells of {shape.clips} clips: metrics and ranking, {cores} cores",
        ["work", "first time s", "tokens kept s"],
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        study = write_study(root, shape)
        clocks = [score_and_rank(root, *study, shape, version, cores) for version in (1, 2)]
        stages = seconds_by_stage(root, *study, shape)
    whole.rows = [[name, *(clock.seconds[name] for clock in clocks)] for name in clocks[0].seconds]
    whole.notes = [
        f"One job scores all cells of a split: {cores} processes compute metrics, and one embeds "
        "captions and splits them into tokens. Starting them is counted.",
        "Embeddings are made up before the clock starts, and BERTScore is off.",
    ]
    one = Table("One captioner of those, in one process with its tokens kept", ["work", "s"])
    one.rows = [[name, seconds] for name, seconds in stages.seconds.items()]
    result.tables += [whole, one]
    wall = [clock.seconds[WALL] for clock in clocks]
    result.parts = {"scores/first": wall[0], "scores/again": wall[1]}
    return result


WALL, ALL = "wall clock", "all of it"
#: What is timed by itself: where it is, its name, what the table calls it.
STAGES = (
    (SplitScorer, "embed", "vectors and tokens of the captions"),
    (split_scorer, "tokenize", "of that, tokens"),
    (score_captions, "clusters", "clusters"),
)


def made_up_scorer(
    root: Path, manifest: pl.DataFrame, shape: Shape, version: int
) -> tuple[Callable[[], SplitScorer], Path]:
    """How to make the scorer of the split with its embeddings at hand, and its frames' file."""
    generator = np.random.default_rng(SEED)
    ids = manifest.filter(pl.col("split") == "report")["id"].to_list()
    frames = {
        clip: generator.standard_normal((shape.frames, shape.width)).astype(np.float32)
        for clip in ids
    }
    path = root / "frames.safetensors"
    path.write_bytes(b"made up")
    settings = ScoreSettings(ScorerConfig(model="made-up"), None, "ko", version)
    embeddings = CachedEmbeddings(clip_vectors([frames[clip] for clip in ids]))

    def make() -> SplitScorer:
        models = ScoreModels(settings, embeddings)  # type: ignore[arg-type]
        return SplitScorer("report", manifest, frames, models, temperature=0.02)

    return make, path


def score_and_rank(
    root: Path,
    manifest: pl.DataFrame,
    captioners: list[Captioner],
    shape: Shape,
    version: int,
    cores: int,
) -> Clock:
    """Seconds on the wall, of all processes' CPU, and by stage."""
    make, frames = made_up_scorer(root, manifest, shape, version)
    clock, before = Clock(), os.times()
    with clock.stage(WALL):
        with clock.stage("scoring"):
            out, cache = root / "scores.json", root / ".cache"
            score_captioners(captioners, [make()], [frames], out, cache=cache, workers=cores)
        with clock.stage("ranking"):
            _rank(root, [c.folder for c in captioners[2:]])
    # User and system, of this process and of those that it waited for.
    spent = sum(os.times()[:4]) - sum(before[:4])
    wall = clock.seconds.pop(WALL)
    return Clock({WALL: wall, "CPU, all processes": spent, **clock.seconds})


def seconds_by_stage(
    root: Path, manifest: pl.DataFrame, captioners: list[Captioner], shape: Shape, n: int = 5
) -> Clock:
    """A captioner's seconds, the mean of ``n``, after references and one other."""
    make, frames = made_up_scorer(root, manifest, shape, 3)
    scorer, clock = make(), Clock()
    out, cache = root / "stages.json", root / ".cache"
    score_captioners(captioners[:2], [scorer], [frames], out, cache=cache)
    with ExitStack() as stack:
        for owner, name, stage in STAGES:
            timed = clock.around(stage, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, timed))
        by_file = {
            name: replace(one, function=clock.around(_file_of(one), one.function))
            for name, one in METRICS.items()
        }
        stack.enter_context(mock.patch.dict(METRICS, by_file))
        with clock.stage(ALL):
            for captioner in captioners[2 : 2 + n]:
                score_captioner(captioner, "", [scorer.split], [scorer.embed(captioner)])
    return Clock({name: seconds / n for name, seconds in sorted(clock.seconds.items())})


def _file_of(one: Metric) -> str:
    return f"metrics of {one.function.__module__.rpartition('.')[2]}.py"


def _rank(root: Path, folders: list[Path]) -> None:
    step = len(folders) // SEEDS
    labels = {f"projector_{i:02d}": folders[i::step] for i in range(step)}
    chosen = {label: Selection(label, 0.1, "grounded", 1, 0, 0, (), ()) for label in labels}
    references = root / "runs" / "references"
    human = pl.read_parquet(references / "clips.parquet")
    n = human.height
    matrix = np.eye(n) + 0.1 * np.random.default_rng(SEED).standard_normal((n, n))
    rank_projectors(
        labels,
        references=references,
        retrieval=root / "runs" / "retrieval",
        selection=StudySelection(chosen),
        scorer=check_scorer(matrix, human["group"].to_list(), human["category"].to_list(), 0.05),
        thresholds=GateThresholds(),
        halved=False,
        out=root / "ranking.json",
    )
