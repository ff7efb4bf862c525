"""Changes of a dataset are told from what its reader takes."""

import json
import os
import shutil

import pytest

from siglip_study.config import parse
from siglip_study.data.fingerprint import dataset_digest, write_listing

MINIMAL = {"projectors": {"linear": {}}}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    for split in ("train", "selection", "report"):
        folder.mkdir(exist_ok=True)
        rows = []
        for name in ("a", "나"):
            clip = f"{split}-{name}"
            (folder / f"{clip}.mp4").write_bytes(clip.encode() * 9)
            rows.append({"id": clip, "path": f"{clip}.mp4", "caption": "공이 있다."})
        text = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def digest(root, tmp_path):
    """The digest of the dataset in ``root`` or elsewhere, as a new process would find them."""

    def found(at=root, **data):
        splits = {split: split for split in ("train", "selection", "report")}
        own = {"root": str(at), "layout": "jsonl", "splits": splits, **data}
        return dataset_digest(
            parse({**MINIMAL, "data": own, "output_dir": str(tmp_path / "data/results")})
        )

    return found


def append(root, split, **row):
    with (root / f"{split}.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(row))


def test_nothing_changes_by_itself(digest):
    assert digest() == digest()


CHANGES = {
    "another content": lambda root: (root / "train-a.mp4").write_bytes(b"new"),
    "another caption": lambda root: append(
        root, "report", id="report-a", path="report-a.mp4", caption="새"
    ),
    "a clip more": lambda root: (
        (root / "new.mp4").write_bytes(b"new"),
        append(root, "selection", id="new", path="new.mp4", caption="새"),
    ),
    "a label that is rejected": lambda root: append(
        root, "train", id="gone", path="gone.mp4", caption="없다"
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(root, digest, name):
    before = digest()
    CHANGES[name](root)
    assert digest() != before


def test_what_no_reader_takes_is_no_change(root, digest):
    before = digest()
    (root / "notes.txt").write_text("note")
    (root / "results").mkdir(exist_ok=True)
    (root / "results/made.mp4").write_bytes(b"1")
    assert digest() == before


def test_a_copy_elsewhere_with_other_times_is_the_same(root, digest, tmp_path):
    before = digest()
    shutil.copytree(root, tmp_path / "copy", ignore=shutil.ignore_patterns("results"))
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, 1))
    assert digest(tmp_path / "copy") == before


def test_how_clips_are_checked_counts(digest):
    assert digest() != digest(min_frames=3)


def test_making_the_dataset_is_no_change(root, digest, tmp_path):
    before = digest(tmp_path / "not made yet")
    splits = {split: split for split in ("train", "selection", "report")}
    own = {"root": str(root), "layout": "jsonl", "splits": splits}
    write_listing(parse({**MINIMAL, "data": own, "output_dir": str(root / "results")}), root)
    assert digest() == before
    append(root, "report", id="report-a", path="report-a.mp4", caption="새")
    assert digest() != before


def test_an_unreadable_dataset_is_left_to_the_job_that_says_why(root, digest):
    (root / "train.jsonl").unlink()
    before = digest()
    (root / "more.txt").write_text("1")
    assert digest() != before
