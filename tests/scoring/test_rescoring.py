"""What is scored again, what is left as it is, and the same on several processes."""

import polars as pl
import pytest

from siglip_study.base.errors import Damaged, StudyError
from siglip_study.base.io import read_json
from siglip_study.scoring import score_files, scores
from tools.fault_campaign import DAMAGES

IDS = [f"selection-{i}" for i in range(6)]


class Unusable:
    """A scorer that must not be needed."""

    def __getattr__(self, name: str):
        raise AssertionError(f"the scorer was used ({name}) although nothing changed")


@pytest.mark.parametrize("splits", [("selection",), ("selection", "report")])
def test_a_second_scoring_rewrites_nothing_and_loads_no_model(world, splits):
    world.splits = splits
    world.score()
    world.age()
    before = world.contents()
    world.score(Unusable())
    assert world.rewritten() == set() and world.contents() == before
    index = read_json(world.root / "i.json", "scores/2")
    assert set(index["cells"]) == {"a", "b", "references"} and index["splits"] == [*splits]


def test_only_what_changed_is_scored_again(world):
    world.score()
    assert world.metrics("a")["losses"] is None
    world.age()
    before = world.contents()
    world.say("b", {clip: f"b now says {i}" for i, clip in enumerate(IDS)})
    world.score()
    assert world.rewritten() == {"b"}
    assert {name for name, now in world.contents().items() if before[name] != now} == {
        "b/metrics.json",
        "b/clips.parquet",
    }
    for matched in (1.0, 2.0):
        world.age()
        world.losses(matched).write_parquet(world.root / "a" / "losses.parquet")
        world.score()
        assert world.rewritten() == {"a"}
        assert world.metrics("a")["losses"]["matched"] == pytest.approx(matched + 2.5)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["metrics.json", "clips.parquet"])
def test_damaged_scores_are_named_with_their_remedy_and_made_anew(world, damage, name):
    world.score()
    world.age()
    before = world.contents()
    damage(world.root / "b" / name)
    index = world.root / "tables" / "scores.report.json"
    index.parent.mkdir()
    index.touch()
    # What stands for it goes, and with it what the next run leaves as it is.
    with pytest.raises(Damaged, match=rf"{name}: (damaged|missing)") as told:
        score_files.read_scores(world.root / "b")
    assert told.value.paths == (index,)
    world.score()
    assert world.rewritten() == {"b"} and world.contents() == before


FACTS = {clip: {"colour": "red" if i % 2 else "blue"} for i, clip in enumerate(IDS)}


@pytest.mark.parametrize(
    "change", ["version", "temperature", "language", "facts", "manifest", "frames"]
)
def test_what_all_depend_on_scores_all_again(world, change):
    world.facts = {clip: {"colour": "red"} for clip in IDS}
    world.score()
    assert world.metrics("a")["truth"]["colour"]["kappa"] is None
    world.age()
    if change == "frames":
        (world.root / "selection.safetensors").write_bytes(b"other")
    else:
        value = {
            "version": 2,
            "temperature": 0.25,
            "language": "en",
            "facts": FACTS,
            "manifest": world.manifest.with_columns(pl.lit("one").alias("category")),
        }[change]
        setattr(world, change, value)
    world.score()
    assert world.rewritten() == {"a", "b", "references"}
    if change == "facts":
        assert world.metrics("a")["truth"]["colour"]["accuracy"] == 0.0


@pytest.mark.parametrize("splits", [("selection",), ("selection", "report")])
def test_remembered_references_change_nothing(world, splits):
    world.splits = splits
    world.score()
    fresh = world.contents()
    (world.root / "a" / "metrics.json").unlink()
    world.score()
    assert world.contents() == fresh


def test_a_kill_between_the_two_files_leaves_no_valid_key(world, monkeypatch):
    world.score()
    honest = world.contents()
    said = world.root / "b" / "captions.json"
    captions = said.read_bytes()
    world.say("b", {clip: "the same" for clip in IDS})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(score_files, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        world.score()
    monkeypatch.undo()
    # The clips are those of the new captions; the old ones come back, with their old key.
    said.write_bytes(captions)
    world.score()
    assert world.contents() == honest


@pytest.fixture
def spread(world, monkeypatch):
    """Score ``world`` on two processes, however little there is."""
    monkeypatch.setattr(scores, "WORTHWHILE", 1)
    return lambda: world.score(workers=2)


@pytest.mark.parametrize("splits", [("selection", "report")])
def test_two_processes_write_the_same_bytes(world, spread, splits):
    world.splits = splits
    world.language = "ko"
    world.say("b", {c: f"{c[-1]} 빨간 공이 굴러간다. 눈이 온다." for c in world.frames})
    world.score()
    alone, index = world.contents(), read_json(world.root / "i.json", "scores/2")
    for name in ("a", "b"):
        (world.root / name / "metrics.json").unlink()
    world.age()
    spread()
    assert world.contents() == alone
    assert read_json(world.root / "i.json", "scores/2") == index
    assert world.rewritten() == {"a", "b"}


def test_what_is_wrong_is_said_in_the_same_sentence(world, spread):
    world.score()
    world.losses().filter(pl.col("id") != "selection-2").write_parquet(
        world.root / "a" / "losses.parquet"
    )
    with pytest.raises(StudyError, match="selection-2"):
        spread()
