"""A look at a dataset before anything runs: what is counted, and what would leak."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.clips import write_video

from siglip_study.base.io import write_parquet
from siglip_study.data.manifest import MANIFEST_SCHEMA
from siglip_study.planning import look
from siglip_study.planning.look import lines, main, script_of
from siglip_study.scoring import baselines
from siglip_study.study import Study

SPLITS = ("train", "selection", "report")


@pytest.fixture
def table(tmp_path):
    """Writes ``<split>.jsonl`` for rows of a caption and other values; gives the keys of data.

    Each row has a video of its own, 2 s long.
    """
    video = write_video(
        tmp_path / "v.mp4", np.zeros((20, 48, 64, 3), np.uint8), range(0, 1200, 60)
    ).read_bytes()

    def write(**splits: list[dict[str, object]]) -> dict[str, object]:
        for split in SPLITS:
            rows = []
            for i, row in enumerate(splits.get(split, [{"caption": "공."}])):
                name = f"{split}{i}.mp4"
                (tmp_path / name).write_bytes(video)
                rows.append(json.dumps({"path": name, **row}))
            (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
        return {"root": str(tmp_path), "layout": "jsonl"}

    return write


def seen(study, data: dict[str, object], **keys: bool) -> str:
    return "\n".join(lines(study(data=data, demo=None), **keys))


def test_clips_captions_and_durations_are_counted_without_decoding(study, table):
    train = [
        {"captions": ["빨간 공.", "공이 구른다."], "group": "x", "category": "ball"},
        {"caption": "A dog.", "group": "x"},
    ]
    text = seen(study, table(train=train))
    assert "Usable clips: 2 train, 1 selection, 1 report; none was left out." in text
    assert "train: 2 clips of 1 source videos; captions a clip: 1.5; 1 categories" in text
    assert re.search(r"durations: (2|1\.9\d) to .* s, by the headers of 2 of 2 clips", text)
    assert "captions: 3, median" in text and "tokens with the end" in text
    assert "scripts: Hangul 67%, Latin 33%" in text
    assert "No source videos in more than one split." in text


def test_captions_over_the_budget_are_counted(study, table):
    text = seen(study, table(train=[{"caption": "빨간 공이 구른다. " * 20}]))
    assert "1 over training.max_target_tokens 24; 1 over captions.max_new_tokens 24" in text


def test_what_would_leak_is_named(study, table):
    rows = {split: [{"id": "same", "caption": "공.", "group": "film"}] for split in SPLITS[:2]}
    text = seen(study, table(**rows))
    assert "1 source videos in more than one split: film" in text
    assert "1 ids in more than one split: same" in text


def test_ten_rejected_are_shown_and_every_reason_among_them(study, table, tmp_path):
    empty = [{"caption": " "} for _ in range(30)]
    data = table(train=[{"caption": "공."}, *empty, {"caption": "공.", "path": "../x.mp4"}])
    text = seen(study, data)
    assert "31 not usable (no caption 30, outside 1)" in text
    shown = text.split("Rejected, 10 of 31:\n")[1].splitlines()
    assert len(shown) == 10 and sum("outside:" in line for line in shown) == 1


def test_files_are_read_by_sample_unless_all_are_asked_for(study, table, monkeypatch):
    monkeypatch.setattr(look, "SAMPLED_FILES", 2)
    data = table(train=[{"caption": "공."}] * 6)
    assert "headers of 2 of 6 clips" in seen(study, data)
    assert "headers of 6 of 6 clips" in seen(study, data, every_duration=True)


def test_the_manifest_is_shown_once_it_is_made(study, table):
    data = table()
    config = study(data=data, demo=None)
    rows = [
        {"id": split, "split": split, "group": split, "captions": ["공."], "duration_s": 4.0}
        for split in SPLITS
    ]
    paths = Study(config).paths
    write_parquet(paths.manifest, pl.DataFrame(rows, schema=MANIFEST_SCHEMA))
    write_parquet(
        paths.rejected,
        pl.DataFrame([["a"], ["a.mp4"], ["short: b"]], schema=["id", "path", "reason"]),
    )
    text = "\n".join(lines(config))
    assert f"From the manifest {paths.manifest}." in text
    assert "4 to 4 s, median 4 s, of all 1 clips" in text and "a (a.mp4): short: b" in text


def test_clips_that_look_alike_across_splits_are_found_by_the_features(study, table, monkeypatch):
    config = study(data=table(train=[{"caption": "공."}] * 3), demo=None)
    own = Study(config)
    for split in SPLITS:
        folder = own.paths.features(own.encoder_slug, split)
        folder.mkdir(parents=True)
        (folder / "index.json").touch()
    train = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = {"train": train, "selection": train[1:2] * 1.01, "report": np.array([[-1.0, 2, 1]])}
    monkeypatch.setattr(baselines, "pooled_features", lambda folder, ids: found[Path(folder).name])
    text = "\n".join(lines(config))
    assert "1 clips look like one of another split" in text
    assert "selection selection0 and train train1 (1.000)" in text


def test_captions_in_another_script_than_the_language_s_are_told(study, table):
    data = table(train=[{"caption": "A dog."}, {"caption": "A cat."}])
    assert "Latin 100%; data.language is ko: expected most in Hangul" in seen(study, data)
    assert "expected most" not in seen(study, {**table(train=[{"caption": "공."}])})


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("빨간 ball", "Latin"),
        ("빨간 공 a", "Hangul"),
        ("一个人", "Han"),
        ("犬が見る", "Kana"),
        ("कुत्ता", "Devanagari"),
        ("123!", "none"),
    ],
)
def test_the_script_of_a_text(text, script):
    assert script_of(text) == script


def test_a_mistake_is_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path / "none.yaml")]) == 1
    assert "no such config file" in capsys.readouterr().err
