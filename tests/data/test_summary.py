"""The line that says what became of a dataset."""

import polars as pl
import pytest

from siglip_study.data.labels import Rejection
from siglip_study.data.summary import Unused, read_summary, read_unused, summarise, write_summary

SPLITS = pl.DataFrame({"split": ["train", "train", "selection", "report"]})


def unused(*reasons: str, values=()) -> Unused:
    rejected = [Rejection(str(i), f"{i}.mp4", why) for i, why in enumerate(reasons)]
    return Unused.of(rejected, dict(values))


@pytest.mark.parametrize(
    ("reasons", "left_out", "line"),
    [
        ([], {}, "Usable clips: 2 train, 1 selection, 1 report; none was left out"),
        (
            ["unreadable: a", "no caption: b", "no caption: c: d"],
            {("category", "list"): 5},
            "Usable clips: 2 train, 1 selection, 1 report; 3 not usable (no caption 2, "
            "unreadable 1), see list.parquet; 'category' is a list in 5 labels, left out",
        ),
    ],
)
def test_clips_by_split_and_what_was_rejected_by_reason(tmp_path, reasons, left_out, line):
    summary = summarise(SPLITS, unused(*reasons, values=left_out))
    assert summary.line("list.parquet") == line
    write_summary(tmp_path / "summary.json", summary)
    assert read_summary(tmp_path / "summary.json") == summary


def test_clips_that_decord_would_read_wrongly_are_counted():
    clips = SPLITS.with_columns(reading=pl.Series(["decord", "packets", "whole", "decord"]))
    line = "Usable clips: 2 train, 1 selection, 1 report; none was left out"
    assert summarise(clips, unused(), "pyav").line("list") == line
    line += "; 2 read without decord, which is not right on them"
    assert summarise(clips, unused(), "decord").line("list") == line


def test_what_splits_leave_out_is_joined_and_comes_back_from_its_file(tmp_path):
    train = unused("unreadable: a", values={("category", "list"): 2, ("group", "null"): 1})
    report = Unused.of([Rejection("r", "0.jpg", "no caption")], {("category", "list"): 3})
    whole = Unused.joined([train, report])
    assert [r.path for r in whole.rejected] == ["0.jpg", "0.mp4"]
    assert whole.values == (("category", "list", 5), ("group", "null", 1))
    whole.write(tmp_path / "unused.json")
    assert read_unused(tmp_path / "unused.json") == whole
    assert whole.table().columns == ["id", "path", "reason"]
