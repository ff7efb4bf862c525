"""What stands in the files of a scored split."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.scored import text_vector

from siglip_study.base.errors import StudyError
from siglip_study.scoring import scores

HALVES = ("selection", "report")
IDS = [f"selection-{i}" for i in range(6)]


def definition_of_margin(matrix: np.ndarray) -> np.ndarray:
    """Least squares of μ + α_i + β_j off the diagonal; D is what the diagonal has above it."""
    n = len(matrix)
    row, column = np.indices((n, n)).reshape(2, -1)
    design = np.hstack([np.ones((n * n, 1)), np.eye(n)[row], np.eye(n)[column]])
    off = row != column
    fit = np.linalg.lstsq(design[off], matrix.ravel()[off], rcond=None)[0]
    return (matrix - (design @ fit).reshape(n, n)).diagonal()


def test_losses_are_joined_by_id(world):
    world.losses().write_parquet(world.root / "a" / "losses.parquet")
    world.score()
    told = world.metrics("a")["losses"]
    assert told["matched"] == pytest.approx(1 + 2.5)
    for gap, value in (("shuffled_gap", 0.5), ("reversed_gap", -0.25)):
        assert told[gap] == pytest.approx({"value": value, "low": value, "high": value})
    table = world.clips("a")
    assert table["id"].to_list() == IDS
    assert table["loss_matched"].to_list() == [1.0 + i for i in range(6)]
    assert world.clips("b")["loss_matched"].to_list() == [None] * 6


def test_references_come_first_and_stand_beside_everybody(world, monkeypatch):
    seen = []
    score = scores.score_captioner

    def spy(captioner, *rest):
        seen.append(captioner.name)
        return score(captioner, *rest)

    monkeypatch.setattr(scores, "score_captioner", spy)
    world.score()
    assert seen == ["references", "b", "a"]
    human = world.metrics("references")
    for name in ("a", "b"):
        margin = world.metrics(name)["values"]["grounding_margin"]
        assert margin["reference"] == human["values"]["grounding_margin"]["value"]
        assert world.metrics(name)["temperature"] == human["temperature"]


@pytest.mark.parametrize("names", [("a", "b"), ()])
def test_without_references_there_is_no_scoring(world, names):
    world.names = names
    with pytest.raises(StudyError, match="human references are not among"):
        world.score()


def test_captions_and_frames_of_other_clips_are_named(world):
    captions = {clip: "text" for clip in IDS if clip != "selection-3"} | {"selection-x": "text"}
    world.say("b", captions)
    with pytest.raises(StudyError, match=r"'selection-3'.*b/captions\.json has 'selection-x'"):
        world.score()
    assert not (world.root / "b" / "metrics.json").exists()
    del world.frames["selection-5"]
    with pytest.raises(StudyError, match="only the manifest has 'selection-5'"):
        world.score()


def test_margins_of_permuted_captions_equal_the_definition(world):
    order = [3, 0, 4, 5, 2, 1]
    rows = world.manifest.filter(split="selection").to_dicts()
    first = {row["id"]: row["captions"][0] for row in rows}
    world.say("a", first)
    world.say("b", {clip: first[IDS[order[i]]] for i, clip in enumerate(IDS)})
    world.score()
    clips = np.stack([world.frames[clip].astype(np.float64) for clip in IDS])
    clips /= np.linalg.norm(clips, axis=2, keepdims=True)
    clips = clips.mean(axis=1)
    clips /= np.linalg.norm(clips, axis=1, keepdims=True)
    matrix = np.stack([text_vector(first[clip]) for clip in IDS]) @ clips.T
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
    path = world.root / "a" / "captions.json"
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
    other = world.record("report-0", "of the report split")
    world.say(
        "b", rows, [other, world.record(IDS[0], "of another video") | {"condition": "shuffled"}]
    )
    world.score()
    assert world.metrics("b")["values"] == before


def test_empty_and_truncated_captions_are_counted_and_an_empty_one_earns_nothing(world):
    world.say("b", {clip: "" if clip == IDS[2] else f"b says {clip}" for clip in IDS})
    world.score()
    told = world.metrics("b")
    assert (told["n_empty"], told["truncated_share"]) == (1, pytest.approx(1 / 6))
    assert told["values"]["truncated_share"]["value"] == pytest.approx(1 / 6)
    assert "truncated_share" in world.metrics("references")["not_computed"]
    row = world.clips("b").row(2, named=True)
    assert row["grounding_margin"] == 0.0 and row["siglip_cosine"] == -1.0


def test_the_report_split_keeps_the_temperature_that_selection_references_fitted(world):
    world.score()
    fitted = world.metrics("references")["temperature"]
    world.splits, world.temperature = ("report",), fitted
    world.score()
    assert {world.metrics(name)["temperature"] for name in world.names} == {fitted}


def test_halves_are_scored_each_by_itself_and_stand_in_one_table(world):
    facts = {clip: {"colour": "red" if clip[-1] in "13" else "blue"} for clip in world.frames}
    world.facts = facts
    alone = {}
    for half in HALVES:
        world.splits = (half,)
        world.score()
        alone[half] = {name: (world.metrics(name), world.clips(name)) for name in world.names}
    fitted = {half: told["references"][0]["temperature"] for half, told in alone.items()}
    world.splits = HALVES
    world.score()
    for name in world.names:
        told, table = world.metrics(name), world.clips(name)
        assert table["id"].to_list() == sorted(world.frames)
        assert set(table["split"]) == {told["split"]} == {"held_out"}
        assert told["truth"]["colour"]["n"] == told["n_clips"] == 10
        # Each half's bits are scaled by the references of the other.
        exchanged = dict(zip(HALVES, reversed(fitted.values()), strict=True))
        assert told["temperature"] == exchanged
        for half in HALVES:
            metrics, rows = alone[half][name]
            own = told["halves"][half]
            same = {key for key in own if own[key] == metrics[key]}
            assert own.keys() - same <= {"values", "temperature"}
            for metric in own["values"].keys() - {"bits"}:
                assert own["values"][metric] == metrics["values"][metric]
            mine = table.filter(pl.col("half") == half)
            apart = ["cluster", "bits", "split"]
            assert mine.drop("half", *apart).equals(rows.drop(apart))
            assert mine["cluster"].n_unique() == rows["cluster"].n_unique()


def test_the_committed_scorer_tells_right_captions_from_wrong_ones(tmp_path, world):
    """The real model in the stand-in's place; its text vectors serve as frames of the clips."""
    import torch

    from siglip_study.features.scorer import Scorer

    torch.set_num_threads(1)
    folder = Path(__file__).parents[2] / "resources" / "demo" / "scorer"
    scorer = Scorer(str(folder))
    texts = [
        "빨간 공이 움직인다.",
        "큰 파란 자동차가 있다.",
        "작은 노란 새가 난다.",
        "하얀 집 한 채.",
    ]
    ids = IDS[:4]
    rows = [(clip, "selection", text) for clip, text in zip(ids, texts, strict=True)]
    rows += [("t0", "train", texts[0]), ("t1", "train", texts[1])]
    manifest = pl.DataFrame(
        {
            "id": [clip for clip, _, _ in rows],
            "split": [split for _, split, _ in rows],
            "group": [clip for clip, _, _ in rows],
            "category": pl.Series([None] * 6, dtype=pl.String),
            "captions": [[text] for _, _, text in rows],
        }
    )
    frames = {i: v[None].numpy() for i, v in zip(ids, scorer.text_embeddings(texts), strict=True)}
    world = type(world)(
        tmp_path, manifest, frames, scorer, ("swapped", "references"), language="ko"
    )
    world.say("references", dict(zip(ids, texts, strict=True)))
    world.say("swapped", dict(zip(ids, texts[::-1], strict=True)))
    world.score()
    human, swapped = (world.metrics(n)["values"] for n in ("references", "swapped"))
    assert human["siglip_cosine"]["value"] == pytest.approx(1.0, abs=1e-5)
    assert human["retrieval_r1"]["value"] == 1.0 and human["auc"]["value"] == 1.0
    assert human["grounding_margin"]["value"] > 0.1 > swapped["grounding_margin"]["value"]
    assert 0 <= human["siglip_sigmoid"]["value"] <= 1
