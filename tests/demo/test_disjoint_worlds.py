"""No micro model has met a clip of the demo: facts, render seeds and sentences."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siglip_study.config import load
from siglip_study.demo.captions import caption
from siglip_study.demo.dataset import plan_dataset
from siglip_study.demo.world import (
    ATTRIBUTES,
    HELD_OUT_PAIRS,
    POOLS,
    RENDER_SEEDS_PER_POOL,
    Scene,
    facts,
    pool_of,
)
from tools.demo_models import lm, scorer, tower
from tools.demo_models.scales import SCALES
from tools.demo_models.scenes import sample_scenes

CONFIG = Path(__file__).parents[2] / "config" / "config.yaml"
TRAINERS = {
    "scorer": (scorer, scorer.train_scorer, "scorer"),
    "tower": (tower, tower.train_tower, None),
    "lm": (lm, lm.train_lm, "clips"),
}


@pytest.fixture(scope="module")
def demo_clips():
    """The clips of the demo as its config asks for them."""
    demo = load(CONFIG).demo
    assert demo is not None
    sizes = {"train": demo.train, "selection": demo.selection, "report": demo.report}
    return plan_dataset(sizes, demo.seed)


def test_the_demo_s_clips_are_of_a_pool_of_their_own(demo_clips):
    """A fact tuple is of one pool at most: no model can have been trained on these."""
    shown = {tuple(facts(clip.scene).values()) for clip in demo_clips}
    assert len(shown) == len(demo_clips)
    assert {pool_of(facts(clip.scene)) for clip in demo_clips} == {"clips"}


def test_no_render_seed_of_the_demo_can_have_been_trained_on(demo_clips):
    drawn = {pool: sample_scenes(pool, 200, 0) for pool in ("scorer", "tower", "lm")}
    drawn["clips"] = [clip.scene for clip in demo_clips]
    for pool, found in drawn.items():
        ranges = {scene.render_seed // RENDER_SEEDS_PER_POOL for scene in found}
        assert ranges == {list(POOLS).index(pool)}


def test_the_demo_shows_pairs_that_no_model_has_met(demo_clips):
    def holds(values: dict[str, str], pair: Any) -> bool:
        return all(values[attribute] == value for attribute, value in pair)

    everything = [
        dict(zip(ATTRIBUTES, values, strict=True))
        for values in itertools.product(*ATTRIBUTES.values())
    ]
    for pair in HELD_OUT_PAIRS:
        pools = {pool_of(values) for values in everything if holds(values, pair)}
        assert pools <= {"clips", None}
        assert any(holds(facts(clip.scene), pair) for clip in demo_clips)


class Drawn(Exception):
    """Enough was seen of a training."""


@pytest.mark.parametrize("part", list(TRAINERS))
def test_a_training_draws_from_its_own_pool_and_its_training_facts(part, monkeypatch, tmp_path):
    module, train, style = TRAINERS[part]
    seen: dict[str, Any] = {}

    def scenes(pool: str, n: int, seed: int, test: bool = False) -> list[Scene]:
        seen.update(pool=pool, n=n, test=test)
        if style is None:
            raise Drawn
        return sample_scenes(pool, 2, seed, test)

    def texts(found: list[Scene], asked: str, *_: Any) -> list[list[str]]:
        seen["style"] = asked
        raise Drawn

    monkeypatch.setattr(module, "sample_scenes", scenes)
    if style is not None:
        monkeypatch.setattr(module, "captions", texts)
    budget = getattr(SCALES["full"], {"tower": "vision", "lm": "llm"}.get(part, part))
    with pytest.raises(Drawn):
        train(tmp_path, budget, None, 0, torch.device("cpu"), 1)
    assert (seen["pool"], seen["n"], seen["test"]) == (part, budget.scenes, False)
    assert seen.get("style") == style


def test_the_scorer_has_read_no_sentence_of_the_demo(demo_clips):
    """Even about the same scene it was told other sentences."""

    def sentences(text: str) -> set[str]:
        parts = (re.sub(r"\s+", " ", part).strip() for part in text.split("."))
        return {part for part in parts if part}

    of_demo = set().union(*(sentences(clip.caption) for clip in demo_clips))
    rng = np.random.default_rng(0)
    told = [caption(clip.scene, rng, style="scorer") for clip in demo_clips for _ in range(4)]
    told += [caption(scene, rng, style="scorer") for scene in sample_scenes("scorer", 800, 0)]
    assert len(of_demo) > len(demo_clips)
    assert not of_demo & set().union(*map(sentences, told))
