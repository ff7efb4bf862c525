"""Captioners that see nothing choose what the raw score likes best, and are never ranked first."""

import numpy as np
import pytest
from support.scored import StandInScorer, text_vector

from siglip_study.base.io import read_json
from siglip_study.demo.captions import caption
from siglip_study.demo.world import sample_scene
from siglip_study.metrics.grounding import auc_within, grounding_margin, grounding_margin_within
from siglip_study.ranking.gate import Candidate, GateThresholds, References, gate_all
from siglip_study.ranking.procedure import Entry, rank_study
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.scoring.baselines import favourites, write_adversaries
from siglip_study.scoring.score_captions import score_captions

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


def chosen_by(manifest, liked, folder):
    """Both captioners, where the clips of each half look like what ``liked`` says of them."""
    frames = {}
    for half, like in liked.items():
        rows = manifest.filter(split=half).to_dicts()
        frames[half] = {row["id"]: np.stack([text_vector(like(row))] * 2) for row in rows}
    out = folder / "generic.json", folder / "category.json"
    write_adversaries(manifest, frames, StandInScorer(), *out)
    return [read_json(path, "captions/1") for path in out]


def test_they_caption_the_report_split_with_train_captions_chosen_on_selection(manifest, tmp_path):
    train = manifest.filter(split="train").sort("id")["captions"].to_list()
    liked = {"a": train[1][0], "b": train[3][1]}
    told = chosen_by(manifest, {"selection": lambda row: liked[row["category"]]}, tmp_path)
    shown = {row["id"]: row["category"] for row in manifest.filter(split="report").to_dicts()}
    assert [own["cell"] for own in told] == ["generic", "category"]
    for own in told:
        assert {r["id"] for r in own["records"]} == set(shown)
        assert {(r["split"], r["condition"]) for r in own["records"]} == {("report", "matched")}
    generic, category = (own["records"] for own in told)
    assert len({r["caption"] for r in generic}) == 1
    assert generic[0]["caption"] in liked.values()
    assert all(record["caption"] == liked[shown[record["id"]]] for record in category)


def test_halves_that_exchange_choose_for_each_other(manifest, tmp_path):
    train = manifest.filter(split="train").sort("id")["captions"].to_list()
    liked = {"selection": train[1][0], "report": train[3][1]}
    for own in chosen_by(manifest, {h: lambda row: liked[row["split"]] for h in liked}, tmp_path):
        said = {(r["split"], r["caption"]) for r in own["records"]}
        assert said == {("selection", liked["report"]), ("report", liked["selection"])}
        assert len(own["records"]) == 10


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


def ranked(world, entries, categories=None):
    """The study of these entries beside perfect references, and its rows by projector."""
    human, groups = world.seer(1.0, 0.0), [f"g{i}" for i in range(N)]
    within = categories and grounding_margin_within(human, categories)
    figures = References(1.0, 1 / N, float(grounding_margin(human).mean()), within)
    told = rank_study(entries, groups, figures, check_scorer(human, groups, categories))
    return told, {own.projector: own for own in told.projectors}


@pytest.mark.parametrize("seed", range(6))
def test_where_categories_are_known_no_adversary_is_ranked_at_all(seed):
    world = World(seed)
    names = [str(c) for c in world.category]
    generic, category = world.adversaries()
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
    told, rows = ranked(world, entries, names)
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
    names = [str(c) for c in world.category]
    generic, category = world.adversaries()
    entries = {
        "generic": entry([generic] * SEEDS, 1),
        # Runs that agree but for rounding would be one run.
        "category": entry([category + 1e-4 * np.eye(N) * s for s in range(SEEDS)], CATEGORIES),
        **{
            f"sees {detail}": entry([world.seer(detail) for _ in range(SEEDS)], N)
            for detail in (0.2, 0.5, 1.0)
        },
    }
    _, rows = ranked(world, entries)
    # One caption for all: D is 0 by algebra, so it has collapsed, and it has no rank.
    assert rows["generic"].gate.verdict == "collapsed" and not rows["generic"].ranked
    assert rows["generic"].mean_margin == pytest.approx(0, abs=1e-12)
    # The raw score prefers it to a projector that sees.
    assert np.diagonal(generic).mean() > np.diagonal(world.seer(0.2, 2.0)).mean()
    # The category shows, stamped; nothing beyond it does, and no grounded projector stands below.
    assert np.isclose(grounding_margin_within(category, names), 0).all()
    assert auc_within(category, names).mean() == pytest.approx(0.5)
    own = rows.pop("category")
    assert not own.ranked or "templated" in own.gate.stamps
    for row in rows.values():
        if row.gate.verdict == "grounded":
            assert row.ranked
            below = row.mean_margin > own.mean_margin and row.rank_low <= (own.rank_low or N)
            assert below or not own.ranked
    assert {rows[f"sees {detail}"].gate.verdict for detail in (0.5, 1.0)} == {"grounded"}


def test_one_projector_entered_twice_comes_out_inseparable():
    """Two trainings of one projector differ by seed noise alone; the same runs do not differ."""
    separated = 0
    for seed in range(20):
        world = World(100 + seed)
        entries = {
            label: entry([world.seer(0.5) for _ in range(SEEDS)], N) for label in ("a", "again")
        }
        entries["a to the bit"] = entries["a"]
        told, _ = ranked(world, entries)
        pairs = {frozenset((p.a, p.b)): p for p in told.pairs}
        same = pairs[frozenset(("a", "a to the bit"))]
        assert same.difference == 0 and same.p_holm == 1
        separated += pairs[frozenset(("a", "again"))].p_holm <= 0.05
    assert separated <= 2


# --- from captions to the gate -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["references", "one caption", "right facts in a boilerplate"])
def test_captions_of_each_kind_go_through_the_gate(kind):
    n, rng = 24, np.random.default_rng(4)
    human = [caption(sample_scene(rng, "clips"), rng) for _ in range(n)]
    hubs, noise = rng.normal(size=(2, n)) * 0.1, rng.normal(size=(n, n)) * 0.05
    # Captions that fit their own clips better, on top of hubs.
    matrix = hubs[0][:, None] + hubs[1][None] + noise + 0.3 * np.eye(n)
    frame = "이 영상은 고정된 장소에서 촬영되었으며 다음과 같은 내용을 차분하고 자세하게 담고 있다."
    captions, scores = {
        "references": (human, matrix),
        "one caption": (human[:1] * n, np.tile(matrix[:1], (n, 1))),
        "right facts in a boilerplate": (
            [f"{frame} {frame} 숫자 {i:02d}." for i in range(n)],
            matrix,
        ),
    }[kind]
    ids, references = [f"clip-{i:02d}" for i in range(n)], [[text] for text in human]
    shared = {"language": "ko", "train_references": references[:5]}
    found, best = (
        score_captions(texts, references, ids, matrix=own, **shared)
        for texts, own in ((captions, scores), (human, matrix))
    )
    diversity = ("effective_captions", "top_cluster_share")
    effective, top = ([found.values[name]["value"]] for name in diversity)
    margins = found.clips["grounding_margin"].to_numpy()
    figures = [best.values[name]["value"] for name in (*diversity, "grounding_margin")]
    candidate = Candidate(effective, top, margins[None])
    told = gate_all({"p": candidate}, References(*figures), GateThresholds())["p"]
    assert told.verdict == ("collapsed" if kind == "one caption" else "grounded")
    assert told.low_diversity == (kind != "references")
    assert ("templated" in told.stamps) == (kind == "right facts in a boilerplate")
    if kind == "one caption":
        assert margins == pytest.approx(0, abs=1e-12) and effective[0] == pytest.approx(1 / n)
