"""Captioners that see nothing choose what the raw score likes best, and are never ranked first."""

import numpy as np
import polars as pl
import pytest
from support.scored import StandInScorer, text_vector

from siglip_study.base.io import read_json
from siglip_study.metrics.grounding import auc_within, grounding_margin, grounding_margin_within
from siglip_study.ranking.gate import GateThresholds, References, gate
from siglip_study.ranking.procedure import Entry, rank_study
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.scoring.baselines import favourites, write_adversaries

CAPTIONS = ["one", "two", "three"]


def test_the_best_caption_of_all_and_of_each_category_by_hand():
    scores = np.array([[0.5, 0.5, 0.1], [0.9, 0.0, 0.0], [0.0, 0.4, 0.6]])
    found = favourites(CAPTIONS, scores, ["a", "b", None])
    # Means: 1.1, 0.9, 1.0 thirds; in a: 0.9 wins; in b: 0.5 wins.
    assert found.generic == "one"
    assert found.by_category == {"a": "two", "b": "one"}
    assert [found.of(c) for c in ("a", "b", None, "never met")] == ["two", "one", "one", "one"]


def test_ties_go_to_the_first_and_no_category_means_the_generic_caption():
    found = favourites(CAPTIONS, np.ones((3, 2)), [None, None])
    assert found.generic == "one" and found.by_category == {}


@pytest.fixture
def written(manifest: pl.DataFrame, tmp_path):
    train = manifest.filter(pl.col("split") == "train").sort("id")["captions"].to_list()
    liked = {"a": train[1][0], "b": train[3][1]}
    rows = manifest.filter(pl.col("split") == "selection").to_dicts()
    # Every selection clip looks like what one train caption of its category says.
    frames = {row["id"]: np.stack([text_vector(liked[row["category"]])] * 2) for row in rows}
    out = tmp_path / "generic.json", tmp_path / "category.json"
    write_adversaries(manifest, {"selection": frames}, StandInScorer(), *out)
    return liked, [read_json(path, "captions/1") for path in out]


def test_they_caption_the_report_split_with_train_captions_chosen_on_selection(manifest, written):
    liked, (generic, category) = written
    shown = {row["id"]: row["category"] for row in manifest.to_dicts() if row["split"] == "report"}
    assert (generic["cell"], category["cell"]) == ("generic", "category")
    for told in (generic, category):
        assert {r["id"] for r in told["records"]} == set(shown)
        assert {(r["split"], r["condition"]) for r in told["records"]} == {("report", "matched")}
    assert len({r["caption"] for r in generic["records"]}) == 1
    assert generic["records"][0]["caption"] in liked.values()
    for record in category["records"]:
        assert record["caption"] == liked[shown[record["id"]]]


def test_halves_that_exchange_choose_for_each_other(manifest, tmp_path):
    train = manifest.filter(pl.col("split") == "train").sort("id")["captions"].to_list()
    liked = {"selection": train[1][0], "report": train[3][1]}
    frames = {
        half: {
            row["id"]: np.stack([text_vector(liked[half])] * 2)
            for row in manifest.filter(pl.col("split") == half).to_dicts()
        }
        for half in liked
    }
    out = tmp_path / "generic.json", tmp_path / "category.json"
    write_adversaries(manifest, frames, StandInScorer(), *out)
    for path in out:
        records = read_json(path, "captions/1")["records"]
        said = {split: {r["caption"] for r in records if r["split"] == split} for split in liked}
        assert said == {"selection": {liked["report"]}, "report": {liked["selection"]}}
        assert len(records) == 10


# --- as entrants of a ranking ------------------------------------------------------------------

N, CATEGORIES, SEEDS = 80, 5, 3


class World:
    """Clips and captions as vectors of what they show: the category, details, and a common part."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.category = np.arange(N) % CATEGORIES
        kinds = self.rng.normal(size=(CATEGORIES, 24))
        details = self.rng.normal(size=(N, 24))
        common = 2.0 * self.rng.normal(size=24)
        self.parts = common, kinds[self.category], details
        self.clips = self._unit(common + kinds[self.category] + details)
        # Candidates for the adversaries: what train captions say, their clips never shown here.
        self.candidates = self._unit(
            common
            + kinds[self.rng.integers(CATEGORIES, size=300)]
            + self.rng.normal(size=(300, 24))
        )

    @staticmethod
    def _unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def matrix(self, vectors):
        return self._unit(vectors) @ self.clips.T

    def seer(self, detail, noise=0.5, kind=1.0):
        """A projector that tells the category and a share of the details, with errors."""
        common, kinds, details = self.parts
        wrong = noise * self.rng.normal(size=details.shape)
        return self.matrix(common + kind * kinds + detail * details + wrong)

    def adversaries(self):
        scores = self.candidates @ self.clips.T
        names = [str(c) for c in self.category]
        found = favourites([str(i) for i in range(300)], scores, names)
        generic = np.repeat(self.candidates[[int(found.generic)]], N, axis=0)
        by_category = self.candidates[[int(found.of(name)) for name in names]]
        return self.matrix(generic), self.matrix(by_category)


def entry(matrices, distinct, categories=None):
    margins = np.stack([grounding_margin(m) for m in matrices])
    within = categories and np.stack([grounding_margin_within(m, categories) for m in matrices])
    return Entry(margins, [distinct / N] * SEEDS, [1 / distinct] * SEEDS, within)


@pytest.mark.parametrize("seed", range(6))
def test_where_categories_are_known_no_adversary_is_ranked_at_all(seed):
    world = World(seed)
    names = [str(c) for c in world.category]
    generic, category = world.adversaries()
    human = world.seer(1.0, 0.0)
    entries = {
        "generic": entry([generic] * SEEDS, 1, names),
        "category": entry([category] * SEEDS, CATEGORIES, names),
        # Enough captions to pass for diverse; it still knows the category alone.
        "category, diverse": entry([category] * SEEDS, N, names),
        **{
            f"sees {detail}": entry([world.seer(detail, kind=0.1) for _ in range(SEEDS)], N, names)
            for detail in (0.5, 1.0)
        },
    }
    groups = [f"g{i}" for i in range(N)]
    within = grounding_margin_within(human, names)
    figures = References(1.0, 1 / N, float(grounding_margin(human).mean()), within)
    told = rank_study(entries, groups, figures, check_scorer(human, groups, names))
    rows = {own.projector: own for own in told.projectors}
    assert told.within_category.demanded
    assert {label for label, row in rows.items() if row.ranked} == {"sees 0.5", "sees 1.0"}
    assert rows["generic"].gate.verdict == rows["category"].gate.verdict == "collapsed"
    assert "category_only" in rows["category"].gate.stamps
    assert rows["category, diverse"].gate.verdict == "category_only"
    # Without the demand it would be ranked: its D is far above 0.
    assert rows["category, diverse"].gate.margin.lower > 0


@pytest.mark.parametrize("seed", range(12))
def test_adversaries_as_entrants_are_never_ranked_above_a_grounded_projector(seed):
    world = World(seed)
    generic, category = world.adversaries()
    human = world.seer(1.0, 0.0)
    entries = {
        "generic": entry([generic] * SEEDS, 1),
        # Runs that agree to the bit would be one run: three that differ in a late digit.
        "category": entry([category + 1e-9 * np.eye(N) * s for s in range(SEEDS)], CATEGORIES),
        **{
            f"sees {detail}": entry([world.seer(detail) for _ in range(SEEDS)], N)
            for detail in (0.2, 0.5, 1.0)
        },
    }
    groups = [f"g{i}" for i in range(N)]
    figures = References(1.0, 1 / N, float(grounding_margin(human).mean()))
    told = rank_study(entries, groups, figures, check_scorer(human, groups))
    rows = {own.projector: own for own in told.projectors}
    # One caption for all: D is 0 by algebra, so it has collapsed, and it has no rank.
    assert rows["generic"].gate.verdict == "collapsed" and not rows["generic"].ranked
    assert rows["generic"].mean_margin == pytest.approx(0, abs=1e-12)
    # The raw score prefers it to a projector that sees.
    assert np.diagonal(generic).mean() > np.diagonal(world.seer(0.2, 2.0)).mean()
    # The category shows, stamped; nothing beyond it does, and no grounded projector stands below.
    assert np.isclose(grounding_margin_within(category, [str(c) for c in world.category]), 0).all()
    assert auc_within(category, [str(c) for c in world.category]).mean() == pytest.approx(0.5)
    if rows["category"].ranked:
        assert "templated" in rows["category"].gate.stamps
    for label, row in rows.items():
        if row.gate.verdict == "grounded" and label != "category":
            assert row.ranked and (
                not rows["category"].ranked
                or (
                    rows["category"].rank_low >= row.rank_low
                    and rows["category"].mean_margin < row.mean_margin
                )
            )
    assert {rows[f"sees {detail}"].gate.verdict for detail in (0.5, 1.0)} == {"grounded"}


def test_one_projector_entered_twice_comes_out_inseparable():
    """Two trainings of one projector differ by seed noise alone; the same runs do not differ."""
    separated = 0
    for seed in range(20):
        world = World(100 + seed)
        groups = [f"g{i}" for i in range(N)]
        human = world.seer(1.0, 0.0)
        entries = {
            label: entry([world.seer(0.5) for _ in range(SEEDS)], N) for label in ("a", "again")
        }
        entries["a to the bit"] = entries["a"]
        figures = References(1.0, 1 / N, float(grounding_margin(human).mean()))
        told = rank_study(entries, groups, figures, check_scorer(human, groups))
        pairs = {frozenset((p.a, p.b)): p for p in told.pairs}
        same = pairs[frozenset(("a", "a to the bit"))]
        assert same.difference == 0 and same.p_holm == 1
        separated += pairs[frozenset(("a", "again"))].p_holm <= 0.05
    assert separated <= 2


def test_the_gate_alone_collapses_the_generic_caption_whatever_its_margin_rounds_to():
    rounding = np.full(60, 3e-8)
    verdict = gate(1 / 60, 1.0, rounding, References(1.0, 1 / 60, 0.3), GateThresholds())
    assert verdict.verdict == "collapsed"
