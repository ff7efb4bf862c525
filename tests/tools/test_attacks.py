"""Captioners that see nothing, or almost nothing, entered beside projectors that see."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from siglip_study.metrics import siglip
from tools.pages import markers
from tools.simulation.attackers import ATTACKS, KIND, MEAN, NOTHING, Attack, Clips, Clues
from tools.simulation.attacks import ATTACKER, Arena, fight, table
from tools.simulation.edits import similarity

PAGE = (Path(__file__).parents[2] / "docs/simulations.md").read_text(encoding="utf-8")
#: What there is to see of a clip: its category, then five details.
FACTS = [[f"c{v}" for v in range(4)], *([f"{k}{v}" for v in range(6)] for k in "defgh")]
RUNS, TRAIN, SHOWN = 3, 120, 40


@functools.cache
def word_vector(word: str) -> np.ndarray:
    seed = hashlib.sha256(word.encode()).digest()[:4]
    return np.random.default_rng(list(seed)).standard_normal(32)


class WordScorer:
    """Reads every word and no order: a caption is the sum of its words' vectors."""

    def vector(self, text: str) -> np.ndarray:
        total = np.sum([np.ones(32), *map(word_vector, text.split())], axis=0)
        return np.asarray(total / np.linalg.norm(total), dtype=np.float32)

    def caption_embeddings(self, captions):
        return [(torch.from_numpy(self.vector(c))[None], torch.ones(1)) for c in captions]


def heard(scenes: np.ndarray, share: float, rng: np.random.Generator) -> list[str]:
    """Captions that tell this share of the facts rightly, and guess the others."""
    guesses = np.stack([rng.integers(len(words), size=len(scenes)) for words in FACTS], axis=1)
    told = np.where(rng.random(scenes.shape) < share, scenes, guesses)
    return [" ".join(FACTS[k][value] for k, value in enumerate(row)) for row in told]


@pytest.fixture(scope="module")
def world() -> tuple[Arena, list[Clues]]:
    """Two projectors that see, one more than the other, and what there is to know of the clips."""
    rng = np.random.default_rng(0)
    scorer = WordScorer()
    n = TRAIN + SHOWN
    scenes = np.stack([rng.integers(len(words), size=n) for words in FACTS], axis=1)
    captions = heard(scenes, 1.0, rng)
    clips = pl.DataFrame(
        {
            "id": [f"clip{i:03}" for i in range(n)],
            "group": [f"video{i:03}" for i in range(n)],
            "category": [FACTS[0][kind] for kind in scenes[:, 0]],
            "captions": [[text] for text in captions],
        }
    )
    seen = scenes[TRAIN:]
    images = siglip.clip_vectors(
        [scorer.vector(text)[None] + 0.1 * rng.standard_normal((1, 32)) for text in captions]
    )
    known = Clips(
        captions,
        clips["category"].to_list(),
        colours=scenes[:, 1:2] + 0.3 * rng.standard_normal((n, 1)),
        features=images @ rng.standard_normal((32, 48)),
    )
    projectors = {
        "sees": [heard(seen, 0.8, rng) for _ in range(RUNS)],
        "sees less": [heard(seen, 0.6, rng) for _ in range(RUNS)],
    }
    arena = Arena(clips[TRAIN:], projectors, images[TRAIN:], scorer)
    clues = Clues(
        known.take(range(TRAIN)),
        known.take(range(TRAIN, n)),
        similarity(captions[:TRAIN], scorer, arena.images),
        [],
        captions[:1] * SHOWN,
        arena.images,
        scorer,
    )
    return arena, [replace(clues, projector=run) for run in projectors["sees"]]


@pytest.fixture(scope="module")
def outcomes(world):
    return {outcome.attack.name: outcome for outcome in fight(*world)}


def test_there_are_24_attacks_and_each_says_what_it_sees():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) == 24
    assert all(attack.sees for attack in ATTACKS)


@pytest.mark.parametrize("name", [attack.name for attack in ATTACKS])
def test_none_is_ranked_above_a_grounded_projector(outcomes, name):
    ranking = outcomes[name].ranking
    verdicts = {own.projector: own.gate.verdict for own in ranking.projectors}
    assert [verdicts[label] for label in ("sees", "sees less")] == ["grounded"] * 2
    assert outcomes[name].below == ()


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.sees in (NOTHING, MEAN, KIND)])
def test_what_sees_the_category_at_most_is_not_ranked(outcomes, attack):
    assert outcomes[attack.name].place is None


@pytest.mark.parametrize(
    ("share", "below"), [(0.95, ("sees", "sees less")), (0.7, ("sees less",)), (0.5, ())]
)
def test_a_captioner_that_sees_is_ranked_by_how_much(world, share, below):
    """So that the attackers' failure is theirs and not the arena's."""
    values = {word: v for words in FACTS for v, word in enumerate(words)}

    def say(clues: Clues, rng: np.random.Generator) -> list[str]:
        scenes = np.array([[values[w] for w in text.split()] for text in clues.shown.captions])
        return heard(scenes, share, rng)

    (outcome,) = fight(*world, [Attack("sees", "the clip", say)])
    assert outcome.below == below
    assert outcome.place == 3 - len(below)


def test_attackers_alike_say_the_same_in_every_run_and_others_do_not(outcomes):
    def spread(name: str) -> float:
        own = {o.projector: o for o in outcomes[name].ranking.projectors}
        return own[ATTACKER].seed_sd

    assert spread("category, details alike in all runs") == pytest.approx(0, abs=1e-9)
    assert spread("category, details anew each run") > 0.01


def test_the_table_has_a_line_an_attack(outcomes):
    lines = table(list(outcomes.values()))
    assert [line.split(" | ")[0][2:] for line in lines[2:]] == [attack.name for attack in ATTACKS]


def test_the_page_shows_all_of_them_and_none_above():
    begin, end = markers("attacks")
    shown = PAGE.split(begin)[1].split(end)[0].strip().splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in shown]
    assert [row[:2] for row in cells] == [[attack.name, attack.sees] for attack in ATTACKS]
    assert {row[-1] for row in cells} == {"no"}
