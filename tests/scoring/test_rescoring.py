"""What is scored again, and what is left as it is."""

import polars as pl
import pytest

from siglip_study.base.io import read_json
from siglip_study.scoring import scores

IDS = [f"selection-{i}" for i in range(6)]


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


def test_changed_losses_are_scored_again(world):
    world.score()
    assert world.metrics("a")["losses"] is None
    world.age()
    world.losses().write_parquet(world.root / "a" / "losses.parquet")
    world.score()
    assert world.rewritten() == {"a"}
    world.age()
    world.losses(2.0).write_parquet(world.root / "a" / "losses.parquet")
    world.score()
    assert world.rewritten() == {"a"}
    assert world.metrics("a")["losses"]["matched"] == pytest.approx(2.0 + 2.5)


FACTS = {clip: {"colour": "red" if i % 2 else "blue"} for i, clip in enumerate(IDS)}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
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


def test_remembered_references_change_nothing(world):
    world.score()
    fresh = world.contents()
    (world.root / "a" / "metrics.json").unlink()
    world.score()
    assert world.contents() == fresh


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
