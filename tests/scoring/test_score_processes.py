"""Scoring on several processes gives what scoring on one gives."""

import polars as pl
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.scoring import split_scorer
from siglip_study.scoring.scores import score_split

IDS = [f"selection-{i}" for i in range(6)]


@pytest.fixture
def spread(world, monkeypatch):
    """Score ``world`` on two processes, however little there is."""
    monkeypatch.setattr(split_scorer, "WORTHWHILE", 1)

    def run():
        captioners = [world.captioner(name) for name in world.names]
        frames, index = world.root / "frames.safetensors", world.root / "i.json"
        score_split(captioners, world.split_scorer(), frames, index, workers=2)

    return run


def test_two_processes_write_the_same_bytes(world, spread):
    world.language = "ko"
    world.say("b", {clip: f"{i} 빨간 공이 굴러간다. 눈이 온다." for i, clip in enumerate(IDS)})
    world.losses().write_parquet(world.root / "a" / "losses.parquet")
    world.score()
    alone, index = world.contents(), read_json(world.root / "i.json", "scores/1")
    for name in ("a", "b"):
        (world.root / name / "metrics.json").unlink()
    world.age()
    spread()
    assert world.contents() == alone
    assert read_json(world.root / "i.json", "scores/1") == index
    assert world.rewritten() == {"a", "b"}


def test_what_is_wrong_is_said_in_the_same_sentence(world, spread):
    world.score()
    world.losses().filter(pl.col("id") != "selection-2").write_parquet(
        world.root / "a" / "losses.parquet"
    )
    with pytest.raises(StudyError, match="selection-2"):
        spread()
    assert not (world.root / "a" / "metrics.json").exists()
