import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.data.layouts import LabelKeys, Scan, get_layout

Add = Callable[..., Path]


def scan(root: Path, layout: str = "aihub", keys: LabelKeys | None = None) -> Scan:
    return get_layout(layout)(root, "train", keys or LabelKeys())


def reasons(found: Scan) -> dict[str, str]:
    return {r.id: r.reason.split(":")[0] for r in found.rejected}


def test_aihub_reads_clips_in_subfolders(aihub: Add) -> None:
    aihub("a/one", source="tape 7", category="동물")
    root = aihub("two", caption=["첫째 문장. ", "", "둘째 문장."])
    first, second = scan(root).entries
    assert (first.id, first.path, first.group) == ("one", "train/videos/a/one.mp4", "tape 7")
    assert first.category == "동물"
    assert second.captions == ("첫째 문장.", "둘째 문장.")
    assert (second.group, second.category) == ("two", None)


def test_a_name_is_the_same_in_nfc_and_nfd(aihub: Add) -> None:
    name = "강아지"
    root = aihub(unicodedata.normalize("NFD", name))
    (root / "train/labels" / f"{unicodedata.normalize('NFD', name)}.json").rename(
        root / "train/labels" / f"{name}.json"
    )
    (entry,) = scan(root).entries
    assert entry.id == name and (root / entry.path).is_file()


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        ("", "no caption"),
        (" \n\t", "no caption"),
        ([], "no caption"),
        (["", " "], "no caption"),
        (None, "no caption"),
        (7, "broken label"),
        (["좋다", 7], "broken label"),
        ({"ko": "좋다"}, "broken label"),
    ],
)
def test_unusable_captions(aihub: Add, caption: object, kind: str) -> None:
    found = scan(aihub("clip", caption=caption))
    assert not found.entries and reasons(found) == {"clip": kind}


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"meta": {"source": []}}'],
)
def test_broken_labels(aihub: Add, content: bytes) -> None:
    root = aihub("clip")
    (root / "train/labels/clip.json").write_bytes(content)
    found = scan(root)
    assert not found.entries
    assert found.rejected[0].path == "train/labels/clip.json"
    assert reasons(found)["clip"] in ("broken label", "no caption")


def test_half_a_character_is_a_broken_label(aihub: Add) -> None:
    root = aihub("clip")
    label = '{"annotation": {"description_kr": "공 \\ud83d"}}'
    (root / "train/labels/clip.json").write_text(label)
    assert reasons(scan(root)) == {"clip": "broken label"}


def test_other_keys_can_be_named(aihub: Add) -> None:
    root = aihub("clip")
    label = {"a": {"b": {"c": "말"}}, "tape": 12, "kind": "x"}
    (root / "train/labels/clip.json").write_text(json.dumps(label))
    (entry,) = scan(root, keys=LabelKeys("a.b.c", "tape", "kind")).entries
    assert (entry.captions, entry.group, entry.category) == (("말",), "12", "x")


def test_lonely_and_doubled_files_are_told_apart(aihub: Add) -> None:
    for name in ("whole", "no_label", "no_clip", "x/twice", "y/twice"):
        root = aihub(name)
    (root / "train/labels/no_label.json").unlink()
    (root / "train/videos/no_clip.mp4").unlink()
    (root / "train/videos/._whole.mp4").write_bytes(b"macOS")
    (root / "train/videos/notes.txt").write_text("not a clip")
    found = scan(root)
    assert [e.id for e in found.entries] == ["whole"]
    assert reasons(found) == {
        "no_label": "clip without label",
        "no_clip": "label without clip",
        "twice": "duplicate id",
    }
    assert sum(r.id == "twice" for r in found.rejected) == 2


def test_links_that_leave_the_root_are_refused(
    aihub: Add, tmp_path_factory: pytest.TempPathFactory, clips: dict[str, Path]
) -> None:
    root = aihub("clip")
    aihub("inside")
    outside = tmp_path_factory.mktemp("outside")
    (root / "train/videos/leak.mp4").symlink_to(clips["plain"])
    (root / "train/videos/folder").symlink_to(outside)
    (root / "train/videos/alias.mp4").symlink_to(root / "train/videos/inside.mp4")
    (root / "train/labels/alias.json").write_bytes((root / "train/labels/inside.json").read_bytes())
    found = scan(root)
    assert [e.id for e in found.entries] == ["alias", "clip", "inside"]
    assert reasons(found) == {"leak": "outside", "folder": "outside"}


def test_a_split_folder_that_leaves_the_root_is_an_error(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/videos").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(StudyError, match="leaves the dataset's folder"):
        scan(tmp_path)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="train/videos: no such folder"):
        scan(tmp_path)


def test_unknown_layout_is_named() -> None:
    with pytest.raises(StudyError, match=r"data\.layout is 'AIHub'; expected one of aihub, jsonl"):
        get_layout("AIHub")


def test_jsonl(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name in "abcd":
        (tmp_path / f"v/{name}.mp4").write_bytes(b"x")
    lines = [
        {"id": "a", "path": "v/a.mp4", "caption": "하나"},
        {"id": "b", "path": "v/./b.mp4", "captions": ["둘", "셋"], "group": 3, "category": "k"},
        {"id": "c", "path": "../c.mp4", "caption": "밖"},
        {"id": "d", "path": "/etc/hostname", "caption": "밖"},
        {"id": "e", "path": "v/none.mp4", "caption": "없다"},
        {"id": "f", "path": "v/c.mp4", "caption": " "},
        {"id": "g", "path": "v/c.mp4", "caption": "같다"},
        {"id": "g", "path": "v/d.mp4", "caption": "같다"},
        {"path": "v/d.mp4", "caption": "이름 없다"},
        {"id": "h", "path": "v/\0.mp4", "caption": "널"},
    ]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n{broken\n"
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
    found = scan(tmp_path, "jsonl")
    assert [(e.id, e.path, e.group, e.category) for e in found.entries] == [
        ("a", "v/a.mp4", "a", None),
        ("b", "v/b.mp4", "3", "k"),
    ]
    assert found.entries[1].captions == ("둘", "셋")
    assert reasons(found) == {
        "c": "outside",
        "d": "outside",
        "e": "label without clip",
        "f": "no caption",
        "g": "duplicate id",
        "train.jsonl:9": "broken label",
        "train.jsonl:10": "broken label",
        "train.jsonl:12": "broken label",
    }


def test_jsonl_missing(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"train\.jsonl"):
        scan(tmp_path, "jsonl")
