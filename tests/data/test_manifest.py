import hashlib

import polars as pl
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.data.manifest import MANIFEST_SCHEMA, halve_split, settle_copies

SPLITS = {"train": "train", "selection": "val", "report": "test"}


def test_good_clips_become_rows_in_order(build, aihub, clips):
    for name in ("b", "a"):
        aihub(name, "train", source="tape")
    aihub("z", "val", clips["clockwise"], category="c")
    root = aihub("가", "test", clips["vfr"])
    manifest, rejected = build(root, SPLITS, workers=2)
    assert manifest.schema == pl.Schema(MANIFEST_SCHEMA) and rejected.is_empty()
    assert rejected.columns == ["id", "path", "reason"]
    assert list(zip(manifest["split"], manifest["id"], strict=True)) == [
        ("train", "a"),
        ("train", "b"),
        ("selection", "z"),
        ("report", "가"),
    ]
    row = manifest.row(2, named=True)
    assert (row["width"], row["height"], row["category"], row["group"]) == (96, 128, "c", "z")
    file = root / row["path"]
    assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert row["duration_s"] == pytest.approx(1.0) and row["n_frames"] == 30
    again, _ = build(root, SPLITS, decoder="pyav")
    assert again.equals(manifest)


def test_each_row_says_how_its_clip_is_read(build, aihub, clips):
    for name in ("plain", "mirrored", "trimmed"):
        root = aihub(name, "train", clips[name])
    readings = {
        decoder: dict(build(root, {"train": "train"}, decoder=decoder)[0]["id", "reading"].rows())
        for decoder in ("pyav", "decord")
    }
    assert set(readings["pyav"].values()) == {"packets"}
    assert readings["decord"] == readings["pyav"] | {"plain": "decord"}


def test_each_bad_clip_is_rejected_by_name_and_reason(build, aihub, clips, broken):
    expected = {}
    for name, (path, kind) in broken.items():
        aihub(name, "train", path)
        expected[f"train/videos/{name}.mp4"] = kind
    for split in ("train", "test"):
        aihub("in_two", split)
        expected[f"{split}/videos/in_two.mp4"] = "duplicate id"
    aihub("short", "train", clips["one"])
    expected["train/videos/short.mp4"] = "too short"
    for split in ("train", "val", "test"):
        root = aihub(f"good_{split}", split)
    manifest, rejected = build(root, SPLITS, workers=2)
    assert manifest["id"].to_list() == ["good_train", "good_val", "good_test"]
    found = {path: reason.split(":")[0] for _, path, reason in rejected.iter_rows()}
    assert found == expected
    assert rejected["path"].to_list() == sorted(expected)


def test_a_source_with_clips_in_two_splits_is_refused(build, aihub):
    aihub("a", "train", source="tape")
    aihub("b", "val")
    root = aihub("c", "test", source="tape")
    with pytest.raises(StudyError, match=r"source video 'tape' .* train and report .*'c'"):
        build(root, SPLITS)


@pytest.mark.parametrize(
    ("limits", "reasons"),
    [
        ({"min_duration_s": 0.01, "min_frames": 1}, []),
        ({"min_duration_s": 0.01}, ["too short: 1 frames; expected at least 2"]),
        ({"min_frames": 1}, ["too short: 0.0333 s; expected at least 0.5 s"]),
    ],
)
def test_limits_on_length(build, aihub, clips, limits, reasons):
    aihub("one", "train", clips["one"])
    root = aihub("long", "train")
    _, rejected = build(root, {"train": "train"}, **limits)
    assert rejected["reason"].to_list() == reasons


def test_what_is_missing_is_named(build, aihub, tmp_path):
    with pytest.raises(StudyError, match=r"data\.root is .*which is no folder"):
        build(tmp_path / "none", SPLITS)
    aihub("a", "train")
    root = aihub("b", "val", caption=" ")
    with pytest.raises(StudyError, match=r"split 'report'.*val/labels/b\.json: no caption"):
        build(root, {"train": "train", "report": "val"})


def held_out(groups: list[str]) -> pl.DataFrame:
    """A clip of each of these groups, and one to train on."""
    ids = [f"c{i:03}" for i in range(len(groups))]
    splits = ["held_out"] * len(groups)
    return pl.DataFrame({"id": [*ids, "t"], "split": [*splits, "train"], "group": [*groups, "t"]})


def test_halves_never_share_a_group_nor_depend_on_the_order_of_rows():
    table = held_out([f"g{i % 17}" for i in range(200)])
    halved = halve_split(table)
    assert halved.equals(halve_split(table.reverse()))
    sizes = dict(halved.group_by("split").len().iter_rows())
    assert sizes["train"] == 1 and abs(sizes["selection"] - sizes["report"]) <= 24
    homes = halved.group_by("group").agg(pl.col("split").n_unique())
    assert homes["split"].max() == 1
    assert halved["split"].unique(maintain_order=True).to_list() == ["train", "selection", "report"]


def test_both_halves_get_something_from_uneven_groups():
    for big in range(2, 30):
        halved = halve_split(held_out(["big"] * big + ["small"]))
        assert {"selection", "report"} <= set(halved["split"])


def test_one_group_cannot_be_halved():
    with pytest.raises(StudyError, match=r"found 1 group"):
        halve_split(held_out(["only"] * 5))


# ---- The same file under several ids: no leak between splits, no clip that counts twice.


def row(clip: str, split: str, file: str, group: str | None = None) -> dict[str, object]:
    path = f"{split}/{clip}.mp4"
    return {"id": clip, "split": split, "sha256": file, "group": group or clip, "path": path}


def settled(*rows: dict[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Groups of the kept by id, and reasons of the rejected."""
    kept, dropped = settle_copies(list(rows))
    return {str(r["id"]): r["group"] for r in kept}, {r.id: r.reason for _, r in dropped}


@pytest.mark.parametrize(
    ("first", "second"),
    [("train", "selection"), ("train", "report"), ("selection", "report"), ("train", "held_out")],
)
def test_a_file_of_two_splits_stays_in_the_later(first, second):
    rows = [row("a", first, "x"), row("b", second, "x"), row("c", first, "y")]
    for order in (rows, rows[::-1]):
        kept, rejected = settled(*order)
        assert kept == {"b": "b", "c": "c"}
        assert rejected == {"a": f"copy: the same file as 'b' in the split {second}"}


def test_groups_are_joined_through_chains_of_copies():
    kept, rejected = settled(
        row("a", "report", "x", "g3"),
        row("b", "report", "x", "g2"),
        row("c", "report", "y", "g2"),
        row("d", "report", "y", "g1"),
        row("e", "report", "z", "g3"),
        row("f", "report", "w", "g4"),
    )
    assert kept == {**dict.fromkeys("abcde", "g1"), "f": "g4"}
    assert not rejected


def test_copies_are_joined_and_never_stand_in_two_halves(build, aihub, clips):
    for name in "te":
        aihub(name, "train")
    aihub("leak", "train", clips["odd"])
    for name in "abcd":
        root = aihub(name, "held", clips["odd" if name in "ad" else "narrow"])
    manifest, rejected = build(root, {"train": "train", "held_out": "held"})
    assert rejected.select("id", "reason").rows() == [
        ("leak", "copy: the same file as 'a' in the split held_out")
    ]
    groups = dict(manifest.select("id", "group").iter_rows())
    assert groups == {"t": "t", "e": "e", "a": "a", "d": "a", "b": "b", "c": "b"}
    halves = dict(halve_split(manifest).select("id", "split").iter_rows())
    assert halves["a"] == halves["d"] != halves["b"] == halves["c"]
    assert set(halves.values()) == {"train", "selection", "report"}


def test_joined_groups_may_not_be_torn_apart(build, aihub, clips):
    """A copy ties two source videos, one of which has clips in another split too."""
    aihub("t", "train")
    aihub("s", "val", source="one")
    aihub("a", "test", clips["odd"], source="one-again")
    root = aihub("b", "test", clips["odd"], source="one")
    with pytest.raises(StudyError, match="source video 'one' has clips in the splits"):
        build(root, SPLITS)
