"""The command that captions files: what it takes, and what it writes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from support.clips import write_video

from siglip_study.base.io import write_json
from siglip_study.captioning.__main__ import (
    CaptionRow,
    find_clips,
    main,
    write_csv,
    write_jsonl,
    write_srt,
)

ROWS = [CaptionRow("a.mp4", "개가 뛴다.", 5, False), CaptionRow("b.mp4", error="cut short")]


def test_a_folder_stands_for_its_videos_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a.MKV", "deep/c.avi", "notes.txt"):
        (tmp_path / name).touch()
    names = ["a.MKV", "b.mp4", "deep/c.avi"]
    assert find_clips([tmp_path]) == [tmp_path / name for name in names]


@pytest.mark.parametrize(
    ("name", "says"), [("nothing.mp4", "no such file"), ("empty", "holds no video")]
)
def test_what_cannot_be_captioned_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path), str(tmp_path / name)]) == 1
    assert says in capsys.readouterr().err


def test_a_list_stands_for_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a b.mp4\n")
    assert main([str(tmp_path), f"@{tmp_path}/list.txt"]) == 1
    assert f"{tmp_path}/a b.mp4: no such file" in capsys.readouterr().err


def test_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mp4").touch()
    assert main([str(tmp_path), str(tmp_path / "a.mp4")]) == 1
    assert "no run; expected a folder 'runs/<cell>'" in capsys.readouterr().err


def test_a_model_that_did_not_come_along_is_named_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").touch()
    run = {"projector": "linear", "vision": {"model": "./not/here"}}
    write_json(tmp_path / "cell.json", {"run": run}, "cell/1")
    assert main([str(tmp_path), str(tmp_path / "a.mp4")]) == 1
    assert f"{tmp_path}/models/vision: no such folder, nor is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "how"),
    [({"sabotage": "noise_features"}, "on noise"), ({"projector": "constant_prefix"}, "without")],
)
def test_a_control_that_saw_no_clip_captions_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, str], how: str
) -> None:
    (tmp_path / "a.mp4").touch()
    write_json(tmp_path / "cell.json", {"run": {"projector": "linear", **keys}}, "cell/1")
    write_json(tmp_path / "checkpoint/checkpoint.json", {"files": {}}, "checkpoint/2")
    assert main([str(tmp_path), str(tmp_path / "a.mp4")]) == 1
    assert f"trained {how}" in capsys.readouterr().err


def test_rows_as_json_lines_and_as_a_table() -> None:
    out = io.StringIO()
    write_jsonl(ROWS, out)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["caption"] == "개가 뛴다." and second["error"] == "cut short"
    out = io.StringIO()
    write_csv(ROWS, out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["caption"] for row in rows] == ["개가 뛴다.", ""]


def test_a_subtitle_stands_as_long_as_its_clip(tmp_path: Path) -> None:
    pictures = np.zeros((20, 32, 32, 3), dtype=np.uint8)
    clip = write_video(tmp_path / "a.mp4", pictures, range(0, 1500, 75))  # 8 frames a second
    write_srt(CaptionRow(str(clip), "One.\n\nTwo."), tmp_path)
    expected = "1\n00:00:00,000 --> 00:00:02,500\nOne.\nTwo.\n"
    assert (tmp_path / "a.srt").read_text() == expected


def test_two_clips_of_one_name_have_no_common_subtitle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [tmp_path / part / "a.mp4" for part in ("x", "y")]
    for clip in clips:
        clip.parent.mkdir()
        clip.touch()
    command = [str(tmp_path), *map(str, clips), "--format", "srt", "--out", str(tmp_path)]
    assert main(command) == 1
    assert "a.srt: of several clips" in capsys.readouterr().err
