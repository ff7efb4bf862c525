"""One video file under several ids: no leak between splits, no clip that counts twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.data.layouts import Rejection
from siglip_study.data.manifest import build_manifest, halve_split, settle_copies

SPLITS = {"train": "train", "selection": "selection", "report": "report"}


def row(clip: str, split: str, file: str, group: str | None = None) -> dict[str, object]:
    path = f"{split}/{clip}.mp4"
    return {"id": clip, "split": split, "sha256": file, "group": group or clip, "path": path}


def settled(*rows: dict[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Groups of the kept by id, and reasons of the rejected."""
    rejected: list[Rejection] = []
    kept = settle_copies(list(rows), rejected)
    return {str(r["id"]): r["group"] for r in kept}, {r.id: r.reason for r in rejected}


@pytest.mark.parametrize(
    ("first", "second"),
    [("train", "selection"), ("train", "report"), ("selection", "report"), ("train", "held_out")],
)
def test_a_file_of_two_splits_stays_in_the_later(first: str, second: str) -> None:
    rows = [row("a", first, "x"), row("b", second, "x"), row("c", first, "y")]
    for order in (rows, rows[::-1]):
        kept, rejected = settled(*order)
        assert kept == {"b": "b", "c": "c"}
        assert rejected == {"a": f"copy: the same file as 'b' in the split {second}"}


def test_copies_within_a_split_are_one_group() -> None:
    kept, rejected = settled(
        row("a", "report", "x"), row("b", "report", "x"), row("c", "report", "y")
    )
    assert kept == {"a": "a", "b": "a", "c": "c"} and not rejected


def test_groups_are_joined_through_chains_of_copies() -> None:
    kept, _ = settled(
        row("a", "report", "x", "g3"),
        row("b", "report", "x", "g2"),
        row("c", "report", "y", "g2"),
        row("d", "report", "y", "g1"),
        row("e", "report", "z", "g3"),
        row("f", "report", "w", "g4"),
    )
    assert kept == {**dict.fromkeys("abcde", "g1"), "f": "g4"}


def test_nothing_changes_where_files_differ() -> None:
    rows = [row(name, "train", name, "g") for name in "abc"]
    rejected: list[Rejection] = []
    assert settle_copies(rows, rejected) == rows and not rejected


def test_a_manifest_has_each_file_once(aihub: Callable[..., Path], clips: dict[str, Path]) -> None:
    for split, names in {"train": "abc", "selection": "de", "report": "fgh"}.items():
        for name in names:
            root = aihub(name, split)
    for name, split in (("leak", "train"), ("shown", "report"), ("again", "report")):
        root = aihub(name, split, clips["odd"])
    manifest, rejected = build_manifest(root, "aihub", SPLITS, workers=1)
    assert rejected.select("id", "reason").rows() == [
        ("leak", "copy: the same file as 'again' in the split report")
    ]
    groups = dict(manifest.select("id", "group").iter_rows())
    assert groups["shown"] == groups["again"] == "again" and groups["f"] == "f"
    assert manifest.height == 10


def test_copies_never_stand_in_two_halves(aihub: Callable[..., Path], clips: dict) -> None:
    aihub("t", "train")
    for name in "abcd":
        root = aihub(name, "held", clips["odd" if name in "ad" else "narrow"])
    manifest, _ = build_manifest(root, "aihub", {"train": "train", "held_out": "held"}, workers=1)
    halves = dict(halve_split(manifest).select("id", "split").iter_rows())
    assert halves["a"] == halves["d"] != halves["b"] == halves["c"]
    assert pl.Series(list(halves.values())).n_unique() == 3


def test_joined_groups_may_not_be_torn_apart(aihub: Callable[..., Path], clips: dict) -> None:
    """A copy ties two source videos, one of which has clips in another split too."""
    aihub("t", "train")
    aihub("s", "selection", source="one")
    aihub("a", "report", clips["odd"], source="one-again")
    root = aihub("b", "report", clips["odd"], source="one")
    with pytest.raises(StudyError, match="source video 'one' has clips in the splits"):
        build_manifest(root, "aihub", SPLITS, workers=1)
