"""Worlds whose order is known, through the demo's own scorer and fact parser."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from siglip_study.demo.captions import caption
from siglip_study.demo.dataset import plan_dataset
from siglip_study.demo.render import render_frame
from siglip_study.demo.world import ATTRIBUTES, Scene, facts
from siglip_study.features.scorer import Scorer
from siglip_study.metrics import siglip
from siglip_study.metrics.diversity import clusters, effective_captions, top_cluster_share
from siglip_study.metrics.grounding import grounding_margin, grounding_margin_within
from siglip_study.ranking.gate import References
from siglip_study.ranking.orders import check_order, facts_score
from siglip_study.ranking.procedure import Entry, Ranking, rank_study
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.scoring.baselines import favourites
from tools.demo_models.scenes import frame_times

SCORER = Path(__file__).parents[2] / "resources" / "demo" / "scorer"
CLIPS, SEEDS = 24, 2
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def spoil(scene: Scene, share: float, rng: np.random.Generator) -> Scene:
    """The scene with all but ``share`` of its eight facts replaced by wrong ones."""
    names = list(ATTRIBUTES)
    wrong = rng.choice(names, round((1 - share) * len(names)), replace=False)
    others = {a: [v for v in ATTRIBUTES[a] if v != getattr(scene, a)] for a in wrong}
    return dataclasses.replace(scene, **{a: str(rng.choice(v)) for a, v in others.items()})


class Demo:
    """Report clips of the demo, seen by its scorer."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        plan = plan_dataset({"train": 48, "selection": 24, "report": CLIPS}, seed=7)
        self.clips = {
            s: [c for c in plan if c.split == s] for s in ("train", "selection", "report")
        }
        self.scenes = [clip.scene for clip in self.clips["report"]]
        self.groups = [clip.id for clip in self.clips["report"]]
        self.places = [scene.place for scene in self.scenes]
        self.scorer = Scorer(str(SCORER), lowercase=True)
        self.images = self.look("report")
        self.human = self.matrix([clip.caption for clip in self.clips["report"]])

    def look(self, split: str) -> np.ndarray:
        scenes = [clip.scene for clip in self.clips[split]]
        times = frame_times(len(scenes), 0, 0.0)
        frames = [
            np.stack([render_frame(scene, float(t), 64) for t in row])
            for scene, row in zip(scenes, times, strict=True)
        ]
        return siglip.clip_vectors(self.scorer.encode(np.stack(frames)).numpy())

    def matrix(self, captions: list[str], images: np.ndarray | None = None) -> np.ndarray:
        pairs = self.scorer.caption_embeddings(captions)
        chunks, weights = ([part[k].numpy() for part in pairs] for k in (0, 1))
        return siglip.score_matrix(chunks, weights, self.images if images is None else images)

    def say(self, share: float, seed: int) -> list[str]:
        rng = np.random.default_rng((seed, round(100 * share)))
        return [caption(spoil(scene, share, rng), rng, style="clips") for scene in self.scenes]

    def entry(self, spoken: list[list[str]]) -> Entry:
        found = [clusters(captions) for captions in spoken]
        matrices = [self.matrix(captions) for captions in spoken]
        return Entry(
            np.stack([grounding_margin(matrix) for matrix in matrices]),
            [float(effective_captions(c)) for c in found],
            [float(top_cluster_share(c)) for c in found],
            np.stack([grounding_margin_within(matrix, self.places) for matrix in matrices]),
        )

    def rank(self, spoken: dict[str, list[list[str]]]) -> Ranking:
        within = grounding_margin_within(self.human, self.places)
        human = References(1.0, 1 / CLIPS, float(grounding_margin(self.human).mean()), within)
        entries = {label: self.entry(captions) for label, captions in spoken.items()}
        return rank_study(entries, self.groups, human, check_scorer(self.human, self.groups))


@pytest.fixture(scope="module")
def demo():
    return Demo()


def test_more_right_facts_rank_higher_by_the_margin_and_by_kappa(demo):
    spoken = {f"{share:.0%}": [demo.say(share, s) for s in range(SEEDS)] for share in SHARES}
    told = demo.rank(spoken)
    rows = {own.projector: own for own in told.projectors}
    true = [facts(scene) for scene in demo.scenes]
    kappas = {
        label: np.stack([facts_score(captions, true) for captions in runs])
        for label, runs in spoken.items()
    }
    for lower, higher in itertools.pairwise(spoken):
        assert rows[lower].mean_margin < rows[higher].mean_margin
        assert kappas[lower].mean() < kappas[higher].mean()
        # No rank may stand against the order of the facts.
        if rows[lower].ranked:
            assert rows[higher].rank_low <= rows[lower].rank_low
    assert {rows[label].gate.verdict for label in ("50%", "75%", "100%")} == {"grounded"}
    assert not rows["0%"].ranked
    order = check_order(kappas, told.pairs, told.alpha)
    assert not order.contradict and len(order.agree) >= 8


def test_the_same_facts_twice_are_inseparable_though_no_sentence_is_the_same(demo):
    spoken = {
        "once": [demo.say(0.75, seed) for seed in (10, 11)],
        "again": [demo.say(0.75, seed) for seed in (12, 13)],
    }
    (pair,) = demo.rank(spoken).pairs
    assert pair.p_holm > 0.05
    assert not set(spoken["once"][0]) & set(spoken["again"][0])


def test_shuffled_references_are_ungrounded(demo):
    captions = [clip.caption for clip in demo.clips["report"]]
    shuffled = [np.roll(captions, step).tolist() for step in (1, 2)]
    (row,) = demo.rank({"shuffled": shuffled}).projectors
    assert row.gate.verdict in ("ungrounded", "undetermined") and not row.ranked


def test_sightless_captioners_please_the_scorer_and_lead_nobody(demo):
    candidates = [clip.caption for clip in demo.clips["train"]]
    scores = demo.matrix(candidates, demo.look("selection"))
    found = favourites(candidates, scores, [c.scene.place for c in demo.clips["selection"]])
    generic = [found.generic] * CLIPS
    category = [found.of(scene.place) for scene in demo.scenes]
    raw = np.diagonal(demo.matrix(generic)).mean()
    # Better liked than what another person says of another clip …
    assert raw > demo.human[~np.eye(CLIPS, dtype=bool)].mean()
    told = demo.rank(
        {
            "generic": [generic] * SEEDS,
            "category": [category] * SEEDS,
            "half of the facts": [demo.say(0.5, seed) for seed in range(SEEDS)],
        }
    )
    rows = {own.projector: own for own in told.projectors}
    # … and collapsed, for all that.
    assert rows["generic"].gate.verdict == "collapsed" and not rows["generic"].ranked
    # D of the category is what it is worth against other categories, and is not enough.
    assert told.within_category.demanded
    assert not rows["category"].ranked and rows["category"].mean_margin > 0
    within = grounding_margin_within(demo.matrix(category), demo.places)
    assert np.nanmax(np.abs(within)) < 1e-6
    sees = rows["half of the facts"]
    assert sees.rank_low == 1
    assert rows["category"].mean_margin < sees.mean_margin
