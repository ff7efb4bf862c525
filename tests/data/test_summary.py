"""The line that says what became of a dataset."""

import polars as pl
import pytest

from siglip_study.data.manifest import REJECTED_SCHEMA
from siglip_study.data.summary import read_summary, summarise, write_summary

SPLITS = pl.DataFrame({"split": ["train", "train", "selection", "report"]})


def rejected(*reasons: str) -> pl.DataFrame:
    return pl.DataFrame(
        [{"id": str(i), "path": f"{i}.mp4", "reason": why} for i, why in enumerate(reasons)],
        schema=REJECTED_SCHEMA,
    )


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
    summary = summarise(SPLITS, rejected(*reasons), left_out)
    assert summary.line("list.parquet") == line
    write_summary(tmp_path / "summary.json", summary)
    assert read_summary(tmp_path / "summary.json") == summary


def test_clips_that_decord_would_read_wrongly_are_counted():
    clips = SPLITS.with_columns(reading=pl.Series(["decord", "packets", "whole", "decord"]))
    line = "Usable clips: 2 train, 1 selection, 1 report; none was left out"
    assert summarise(clips, rejected(), {}, "pyav").line("list") == line
    line += "; 2 read without decord, which is not right on them"
    assert summarise(clips, rejected(), {}, "decord").line("list") == line
