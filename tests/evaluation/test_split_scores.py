"""Scoring a split: what is rewritten, what is remembered, and what stands in the files."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siglip_study.config import ScorerConfig
from siglip_study.errors import StudyError
from siglip_study.evaluation import scores
from siglip_study.evaluation.scores import (
    Captioner,
    ScoreSettings,
    SplitScorer,
    reference_temperature,
    score_split,
)
from siglip_study.io import read_json, write_json

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


@dataclass
class World:
    """A split with references and two cells, ``a`` and ``b``, and a way to score it anew."""

    root: Path
    manifest: pl.DataFrame
    frames: dict[str, np.ndarray]
    scorer: object
    names: tuple[str, ...] = ("b", "a", "references")
    code: str = "v1"
    facts: dict | None = None
    language: str = "other"

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
            ScoreSettings(ScorerConfig(model="stand-in"), None, self.language, self.code),
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


def definition_of_margin(matrix: np.ndarray) -> np.ndarray:
    """Least squares of μ + α_i + β_j off the diagonal; D is what the diagonal has above it."""
    n = len(matrix)
    row, column = np.indices((n, n)).reshape(2, -1)
    design = np.hstack([np.ones((n * n, 1)), np.eye(n)[row], np.eye(n)[column]])
    off = row != column
    fit = np.linalg.lstsq(design[off], matrix.ravel()[off], rcond=None)[0]
    return (matrix - (design @ fit).reshape(n, n)).diagonal()


def test_a_second_scoring_rewrites_nothing_and_loads_no_model(world, unusable):
    world.score()
    world.age()
    before = world.contents()
    world.score(unusable)
    assert world.rewritten() == set() and world.contents() == before
    assert set(read_json(world.root / "i.json", "scores/1")["cells"]) == {"a", "b", "references"}


def test_only_a_changed_cell_is_scored_again(world):
    world.score()
    world.age()
    before = world.contents()
    world.say("b", {clip: f"b now says {i}" for i, clip in enumerate(IDS)})
    world.score()
    assert world.rewritten() == {"b"}
    after = world.contents()
    assert {name for name in after if after[name] != before[name]} == {
        "b/metrics.json",
        "b/clips.parquet",
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


def test_changed_losses_are_scored_again(world):
    world.score()
    assert world.metrics("a")["losses"] is None
    world.age()
    losses().write_parquet(world.root / "a" / "losses.parquet")
    world.score()
    assert world.rewritten() == {"a"}
    world.age()
    losses(2.0).write_parquet(world.root / "a" / "losses.parquet")
    world.score()
    assert world.rewritten() == {"a"}
    assert world.metrics("a")["losses"]["matched"] == pytest.approx(2.0 + 2.5)


def test_losses_are_joined_by_id(world):
    losses().write_parquet(world.root / "a" / "losses.parquet")
    world.score()
    told = world.metrics("a")["losses"]
    assert told["matched"] == pytest.approx(1 + 2.5)
    for gap, value in (("shuffled_gap", 0.5), ("reversed_gap", -0.25)):
        assert told[gap] == pytest.approx({"value": value, "low": value, "high": value})
    table = world.clips("a")
    assert table["id"].to_list() == IDS
    assert table["loss_matched"].to_list() == [1.0 + i for i in range(6)]
    assert world.clips("b")["loss_matched"].to_list() == [None] * 6


def test_losses_of_other_clips_are_named(world):
    losses().filter(pl.col("id") != "selection-2").write_parquet(
        world.root / "a" / "losses.parquet"
    )
    with pytest.raises(StudyError, match="selection-2"):
        world.score()


FACTS = {clip: {"colour": "red" if i % 2 else "blue"} for i, clip in enumerate(IDS)}


@pytest.mark.parametrize(
    "change",
    [
        {"code": "v2"},
        {"language": "en"},
        {"facts": FACTS},
        {"manifest": None},
        {"frames.safetensors": b"other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_all_depend_on_scores_all_again(world, change):
    world.score()
    world.age()
    for name, value in change.items():
        if name == "manifest":
            category = pl.lit("one").alias("category")
            world.manifest = world.manifest.with_columns(category)
        elif name == "frames.safetensors":
            (world.root / name).write_bytes(value)
        else:
            setattr(world, name, value)
    world.score()
    assert world.rewritten() == {"a", "b", "references"}


def test_other_facts_are_scored_again(world):
    world.facts = FACTS
    world.score()
    assert world.metrics("a")["truth"]["colour"]["accuracy"] == 0.0
    world.age()
    world.facts = {clip: {"colour": "red"} for clip in IDS}
    world.score()
    assert world.rewritten() == {"a", "b", "references"}
    assert world.metrics("a")["truth"]["colour"]["kappa"] is None


def test_a_lost_matrix_is_made_again(world):
    world.score()
    world.age()
    (world.root / "references" / "matrix.safetensors").unlink()
    world.score()
    assert world.rewritten() == {"references"}
    assert (world.root / "references" / "matrix.safetensors").is_file()


def test_references_come_first(world, monkeypatch):
    seen = []
    score = SplitScorer.score

    def spy(self, captioner, key):
        seen.append(captioner.name)
        return score(self, captioner, key)

    monkeypatch.setattr(SplitScorer, "score", spy)
    world.score()
    assert seen == ["references", "b", "a"]
    for name in ("a", "b"):
        values = world.metrics(name)["values"]
        human = world.metrics("references")["values"]
        assert values["grounding_margin"]["reference"] == human["grounding_margin"]["value"]
        assert world.metrics(name)["temperature"] == world.metrics("references")["temperature"]


def test_remembered_references_change_nothing(world):
    world.score()
    fresh = world.contents()
    (world.root / "a" / "metrics.json").unlink()
    world.score()
    assert world.contents() == fresh


def test_without_references_there_is_no_scoring(world):
    world.names = ("a", "b")
    with pytest.raises(StudyError, match="human references are not among"):
        world.score()
    world.names = ()
    with pytest.raises(StudyError, match="human references are not among"):
        world.score()


def test_clips_that_differ_are_named(world):
    captions = {clip: "text" for clip in IDS if clip != "selection-3"} | {"stranger": "text"}
    world.say("b", captions)
    with pytest.raises(StudyError, match=r"'selection-3'.*b/captions\.json has 'stranger'"):
        world.score()
    assert not (world.root / "b" / "metrics.json").exists()


def test_frames_of_other_clips_are_named(world):
    del world.frames["selection-5"]
    with pytest.raises(StudyError, match="only the manifest has 'selection-5'"):
        world.score()


def test_a_kill_between_the_two_files_leaves_no_valid_key(world, monkeypatch):
    world.score()
    honest = world.contents()
    captions = world.captioner("b").captions.read_bytes()
    world.say("b", {clip: "the same" for clip in IDS})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scores, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        world.score()
    monkeypatch.undo()
    # The clips are those of the new captions; the old ones come back, with their old key.
    world.captioner("b").captions.write_bytes(captions)
    world.score()
    assert world.contents() == honest


def test_margins_of_permuted_captions_equal_the_definition(world, embed):
    order = [3, 0, 4, 5, 2, 1]
    rows = world.manifest.filter(pl.col("split") == "selection").to_dicts()
    first = {row["id"]: row["captions"][0] for row in rows}
    world.say("a", first)
    world.say("b", {clip: first[IDS[order[i]]] for i, clip in enumerate(IDS)})
    world.score()
    clips = np.stack([world.frames[clip].astype(np.float64) for clip in IDS])
    clips /= np.linalg.norm(clips, axis=2, keepdims=True)
    clips = clips.mean(axis=1)
    clips /= np.linalg.norm(clips, axis=1, keepdims=True)
    matrix = np.stack([embed(first[clip]) for clip in IDS]) @ clips.T
    for name, expected in (("a", matrix), ("b", matrix[order])):
        table = world.clips(name)
        assert table["id"].to_list() == IDS
        np.testing.assert_allclose(table["siglip_cosine"], expected.diagonal(), atol=1e-6)
        np.testing.assert_allclose(
            table["grounding_margin"], definition_of_margin(expected), atol=1e-6
        )
    margin = {n: world.metrics(n)["values"]["grounding_margin"] for n in ("a", "b")}
    assert margin["a"]["low"] > 0 > margin["b"]["value"]


def test_the_order_of_rows_changes_nothing(world):
    world.score()
    before = {name: world.clips(name) for name in ("a", "b", "references")}
    values = {name: world.metrics(name)["values"] for name in before}
    world.manifest = world.manifest.reverse()
    world.frames = dict(reversed(world.frames.items()))
    path = world.captioner("a").captions
    told = json.loads(path.read_text(encoding="utf-8"))
    told["records"].reverse()
    path.write_text(json.dumps(told), encoding="utf-8")
    for name in before:
        (world.root / name / "metrics.json").unlink()
    world.score()
    for name, table in before.items():
        assert world.clips(name).equals(table)
        assert world.metrics(name)["values"] == values[name]


def test_other_splits_and_conditions_do_not_count(world):
    world.score()
    before = world.metrics("b")["values"]
    rows = {clip: f"b says {clip}" for clip in IDS}
    other = record("report-0", "of the report split", "report")
    world.say("b", rows, [other, record(IDS[0], "of another video") | {"condition": "shuffled"}])
    world.score()
    assert world.metrics("b")["values"] == before


def test_an_empty_caption_earns_nothing(world):
    world.say("b", {clip: "" if clip == IDS[2] else f"b says {clip}" for clip in IDS})
    world.score()
    assert world.metrics("b")["n_empty"] == 1
    row = world.clips("b").row(2, named=True)
    assert row["grounding_margin"] == 0.0 and row["siglip_cosine"] == -1.0


def test_truncated_captions_are_counted(world):
    world.score()
    assert world.metrics("a")["truncated_share"] == pytest.approx(1 / 6)
    assert world.metrics("a")["values"]["truncated_share"]["value"] == pytest.approx(1 / 6)
    assert "truncated_share" in world.metrics("references")["not_computed"]


def test_the_temperature_is_that_of_the_selection_references(world):
    world.score()
    fitted = world.metrics("references")["temperature"]
    assert reference_temperature(world.root / "references", "report") == fitted
    assert reference_temperature(world.root / "absent", "selection") is None
    with pytest.raises(StudyError, match="no such file"):
        reference_temperature(world.root / "absent", "report")


def test_the_report_split_keeps_the_temperature_it_is_given(
    tmp_path, manifest, embed, stand_in, world
):
    ids = [f"report-{i}" for i in range(4)]
    frames = {clip: embed(clip)[None] for clip in ids}
    settings = ScoreSettings(ScorerConfig(model="stand-in"), None, "other", "v1")
    folder = tmp_path / "report-references"
    captions = folder / "captions.json"
    records = [record(clip, f"about {clip}", "report") for clip in ids]
    write_json(captions, {"cell": "references", "records": records}, "captions/1")
    (tmp_path / "frames").write_bytes(b"")
    for temperature in (0.5, 0.25):
        scorer = SplitScorer("report", manifest, frames, settings, None, temperature)
        scorer._scorer = stand_in
        references = Captioner("references", "references", folder, captions)
        score_split([references], scorer, tmp_path / "frames", tmp_path / "index.json")
        # The second temperature is seen although nothing else changed.
        assert read_json(folder / "metrics.json", "metrics/1")["temperature"] == temperature
    assert pl.read_parquet(folder / "clips.parquet")["group"].n_unique() == 2


def test_the_committed_scorer_tells_right_captions_from_wrong_ones(tmp_path):
    """The real model in the stand-in's place; its text vectors serve as frames of the clips."""
    import torch

    from siglip_study.features.scorer import Scorer

    torch.set_num_threads(1)
    folder = Path(__file__).parents[2] / "resources" / "demo" / "scorer"
    scorer = Scorer(str(folder))
    texts = [
        "맑은 날 바다에서 빨간 공 하나가 왼쪽으로 움직인다.",
        "눈이 오는 도시에서 큰 파란 자동차 두 대가 가만히 있다.",
        "밤에 들판에서 작은 노란 새 세 마리가 위로 올라간다.",
        "비가 오는 산에서 하얀 집 한 채가 보인다.",
    ]
    ids = [f"selection-{i}" for i in range(4)]
    manifest = pl.DataFrame(
        {
            "id": [*ids, "t0", "t1"],
            "split": ["selection"] * 4 + ["train"] * 2,
            "group": [*ids, "t0", "t1"],
            "category": pl.Series([None] * 6, dtype=pl.String),
            "captions": [[text] for text in [*texts, *texts[:2]]],
        }
    )
    frames = {i: v[None].numpy() for i, v in zip(ids, scorer.text_embeddings(texts), strict=True)}
    world = World(tmp_path, manifest, frames, scorer, ("swapped", "references"), language="ko")
    world.say("references", dict(zip(ids, texts, strict=True)))
    world.say("swapped", dict(zip(ids, texts[::-1], strict=True)))
    world.score()
    human, swapped = (world.metrics(n)["values"] for n in ("references", "swapped"))
    assert human["siglip_cosine"]["value"] == pytest.approx(1.0, abs=1e-5)
    assert human["retrieval_r1"]["value"] == 1.0 and human["auc"]["value"] == 1.0
    assert human["grounding_margin"]["value"] > 0.1 > swapped["grounding_margin"]["value"]
    assert 0 <= human["siglip_sigmoid"]["value"] <= 1
    fresh = world.contents()
    (tmp_path / "swapped" / "metrics.json").unlink()
    world.score()
    assert world.contents() == fresh
