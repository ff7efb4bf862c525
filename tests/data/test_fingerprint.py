"""Changes of a dataset are told split by split, from what its reader takes."""

import json
import os
import shutil

import pytest

from siglip_study.config import parse
from siglip_study.data.fingerprint import split_digests, write_listing

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
def digests(root, tmp_path):
    """Digests of the dataset in ``root`` or elsewhere, as a new process would find them."""

    def found(at=root, **data):
        splits = {split: split for split in ("train", "selection", "report")}
        own = {"root": str(at), "layout": "jsonl", "splits": splits, **data}
        return split_digests(
            parse({**MINIMAL, "data": own, "output_dir": str(tmp_path / "data/results")})
        )

    return found


def append(root, split, **row):
    with (root / f"{split}.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(row))


def changed(before, after):
    return {split for split in before if before[split] != after[split]}


def test_nothing_changes_by_itself_nor_with_how_the_folder_is_written(root, digests, monkeypatch):
    monkeypatch.chdir(root)
    assert digests() == digests() == digests(".") == digests(f"{root}/")
    kept = (root / "results/data/digests.json").stat().st_mtime_ns
    digests(".")
    assert (root / "results/data/digests.json").stat().st_mtime_ns == kept, "read again"


def add(clip, split, file=None, **keys):
    """One clip more, with a content of its own or a copy of another file."""

    def change(root):
        content = (root / file).read_bytes() if file else f"new {clip}".encode()
        (root / f"{clip}.mp4").write_bytes(content)
        append(root, split, id=clip, path=f"{clip}.mp4", caption="새", **keys)

    return change


CHANGES = {
    "another content": (lambda root: (root / "train-a.mp4").write_bytes(b"new"), {"train"}),
    "another caption": (
        lambda root: append(root, "report", id="report-a", path="report-a.mp4", caption="새"),
        {"report"},
    ),
    "a clip more": (add("new", "selection"), {"selection"}),
    "a label that is rejected": (
        lambda root: append(root, "train", id="gone", path="gone.mp4", caption="없다"),
        {"train"},
    ),
    # What two splits share may be taken from one of them.
    "a copy in another split": (add("new", "report", "train-a.mp4"), {"train", "report"}),
    "a copy in the same split": (add("new", "report", "report-a.mp4"), {"report"}),
    "an id of another split": (
        lambda root: append(root, "report", id="train-a", path="report-a.mp4", caption="새"),
        {"train", "report"},
    ),
    "a source of another split": (add("new", "report", group="train-a"), {"train", "report"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_counts_for_the_splits_that_it_touches(root, digests, name):
    change, splits = CHANGES[name]
    before = digests()
    change(root)
    assert changed(before, digests()) == splits


def test_a_change_counts_for_what_depends_on_it_through_a_third_split(root, digests):
    add("x", "selection", "train-a.mp4", group="tape")(root)
    add("y", "report", group="tape")(root)
    before = digests()
    (root / "y.mp4").write_bytes(b"other")
    assert changed(before, digests()) == {"train", "selection", "report"}


def test_what_no_reader_takes_is_no_change(root, digests):
    before = digests()
    (root / "notes.txt").write_text("note")
    (root / "results").mkdir(exist_ok=True)
    (root / "results/made.mp4").write_bytes(b"1")
    assert digests() == before


def test_a_copy_elsewhere_with_other_times_is_the_same(root, digests, tmp_path):
    before = digests()
    shutil.copytree(root, tmp_path / "copy", ignore=shutil.ignore_patterns("results"))
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, 1))
    assert digests(tmp_path / "copy") == before


def test_how_clips_are_checked_counts_for_all(digests):
    assert changed(digests(), digests(min_frames=3)) == {"train", "selection", "report"}


def test_making_the_dataset_is_no_change(root, digests, tmp_path):
    before = digests(tmp_path / "not made yet")
    splits = {split: split for split in ("train", "selection", "report")}
    own = {"root": str(root), "layout": "jsonl", "splits": splits}
    write_listing(parse({**MINIMAL, "data": own, "output_dir": str(root / "results")}), root)
    assert digests() == before
    append(root, "report", id="report-a", path="report-a.mp4", caption="새")
    assert changed(before, digests()) == {"report"}


def test_a_demo_that_is_being_made_counts_as_made(tmp_path):
    """Else what is read of it would run again once it is."""
    config = parse({**MINIMAL, "demo": {"train": 2}, "output_dir": str(tmp_path)})
    before = split_digests(config)
    videos = tmp_path / "demo/train/videos"
    videos.mkdir(parents=True)
    (videos / "train_0000.mp4").write_bytes(b"half of it")
    assert split_digests(config) == before


def test_an_unreadable_dataset_is_left_to_the_job_that_says_why(root, digests):
    (root / "train.jsonl").unlink()
    before = digests()
    (root / "more.txt").write_text("1")
    assert changed(before, digests()) == {"train", "selection", "report"}
