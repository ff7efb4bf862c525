import hashlib
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.data.manifest import MANIFEST_SCHEMA, build_manifest, halve_split

Add = Callable[..., Path]
SPLITS = {"train": "train", "selection": "val", "report": "test"}


def test_good_clips_become_rows_in_order(aihub: Add, clips: dict[str, Path]) -> None:
    for name in ("b", "a"):
        aihub(name, "train", source="tape")
    aihub("z", "val", clips["clockwise"], category="c")
    root = aihub("가", "test", clips["vfr"])
    manifest, rejected = build_manifest(root, "aihub", SPLITS, workers=2)
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
    again, _ = build_manifest(root, "aihub", SPLITS, workers=1, decoder="pyav")
    assert again.equals(manifest)


def test_each_bad_clip_is_rejected_by_name_and_reason(
    aihub: Add, clips: dict[str, Path], broken: dict[str, tuple[Path, str]]
) -> None:
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
    manifest, rejected = build_manifest(root, "aihub", SPLITS, workers=2)
    assert manifest["id"].to_list() == ["good_train", "good_val", "good_test"]
    found = {path: reason.split(":")[0] for _, path, reason in rejected.iter_rows()}
    assert found == expected
    assert rejected["path"].to_list() == sorted(expected)


def test_a_source_with_clips_in_two_splits_is_refused(aihub: Add) -> None:
    aihub("a", "train", source="tape")
    aihub("b", "val")
    root = aihub("c", "test", source="tape")
    with pytest.raises(StudyError, match=r"source video 'tape' .* train and report .*'c'"):
        build_manifest(root, "aihub", SPLITS, workers=1)


def test_limits_on_length(aihub: Add, clips: dict[str, Path]) -> None:
    aihub("one", "train", clips["one"])
    root = aihub("long", "train")

    def rejected(**limits: float) -> list[str]:
        _, bad = build_manifest(root, "aihub", {"train": "train"}, workers=1, **limits)  # type: ignore[arg-type]
        return bad["reason"].to_list()

    assert rejected(min_duration_s=0.01, min_frames=1) == []
    assert rejected(min_duration_s=0.01) == ["too short: 1 frames; expected at least 2"]
    assert rejected(min_frames=1) == ["too short: 0.0333 s; expected at least 0.5 s"]


def test_an_empty_split_is_an_error_that_says_why(aihub: Add) -> None:
    aihub("a", "train")
    root = aihub("b", "val", caption=" ")
    with pytest.raises(StudyError, match=r"split 'report'.*val/labels/b\.json: no caption"):
        build_manifest(root, "aihub", {"train": "train", "report": "val"}, workers=1)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"data\.root"):
        build_manifest(tmp_path / "none", "aihub", SPLITS)


def held_out(groups: list[str]) -> pl.DataFrame:
    rows = {
        "id": [f"c{i:03}" for i in range(len(groups))] + ["t"],
        "split": ["held_out"] * len(groups) + ["train"],
        "group": [*groups, "t"],
    }
    return pl.DataFrame(rows)


def test_halves_never_share_a_group() -> None:
    groups = [f"g{i % 17}" for i in range(200)]
    halved = halve_split(held_out(groups))
    sizes = dict(halved.group_by("split").len().iter_rows())
    assert sizes["train"] == 1 and abs(sizes["selection"] - sizes["report"]) <= 24
    homes = halved.group_by("group").agg(pl.col("split").n_unique())
    assert homes["split"].max() == 1
    assert halved["split"].unique(maintain_order=True).to_list() == ["train", "selection", "report"]


def test_halving_does_not_depend_on_the_order_of_rows() -> None:
    table = held_out([f"g{i % 9}" for i in range(50)])
    assert halve_split(table).equals(halve_split(table.reverse()))


def test_both_halves_get_something_from_uneven_groups() -> None:
    for big in range(2, 30):
        halved = halve_split(held_out(["big"] * big + ["small"]))
        assert {"selection", "report"} <= set(halved["split"])


def test_one_group_cannot_be_halved() -> None:
    with pytest.raises(StudyError, match=r"found 1 group"):
        halve_split(held_out(["only"] * 5))
