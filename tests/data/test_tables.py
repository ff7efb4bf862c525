"""Tables of clips: columns by name, rows of one clip, segments, values that are no text."""

import json
import os
import unicodedata
from pathlib import Path

import polars as pl
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.config.study import DataConfig
from siglip_study.data.labels import Scan, lookup
from siglip_study.data.layouts import scan_split

LAYOUTS = ("csv", "jsonl", "parquet")


@pytest.fixture
def root(tmp_path):
    """A dataset's folder with the files v/a.mp4 to v/d.mp4, which no reader opens."""
    (tmp_path / "v").mkdir()
    for name in "abcd":
        (tmp_path / f"v/{name}.mp4").touch()
    return tmp_path


def write(root: Path, layout: str, rows: list[dict[str, object]]) -> None:
    path = root / f"train.{layout}"
    if layout == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    elif layout == "csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        pl.DataFrame(rows).write_parquet(path)


def scan(root: Path, layout: str, rows: list[dict[str, object]], **keys: object) -> Scan:
    write(root, layout, rows)
    return scan_split(DataConfig(layout=layout, **keys), root, "train")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_are_named_by_the_config(root, layout):
    rows = [
        {"file": "v/a.mp4", "말": "공이 구른다.", "film": "x", "genre": "sport", "size": 3},
        {"file": "v/b.mp4", "말": "개가 잔다.", "film": None, "genre": None, "size": 4},
    ]
    keys = {"path_key": "file", "caption_key": "말", "group_key": "film", "category_key": "genre"}
    first, second = scan(root, layout, rows, **keys, ignore_keys=("size",)).clips
    assert (first.id, first.path, first.captions) == ("v/a", "v/a.mp4", ("공이 구른다.",))
    assert (first.group, first.category) == ("x", "sport")
    assert (second.group, second.category) == ("v/b", None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_one_clip_are_its_references(root, layout):
    captions = ["하나.", "둘.", "셋.", "둘."]
    rows = [{"id": "a", "path": "v/a.mp4", "caption": text} for text in captions]
    (clip,) = scan(root, layout, rows).clips
    assert clip.captions == ("하나.", "둘.", "셋.")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_segment_is_a_clip(root, layout):
    rows = [
        {"video": "v/a.mp4", "from": 0, "to": 2.5, "caption": "하나."},
        {"video": "v/a.mp4", "from": 2.5, "to": None, "caption": "둘."},
        {"video": "v/a.mp4", "from": 2.5, "to": None, "caption": "둘째 말."},
        {"video": "v/b.mp4", "from": 1, "to": 1, "caption": "빈 구간."},
        {"video": "v/c.mp4", "from": -1, "to": 2, "caption": "음수."},
    ]
    found = scan(root, layout, rows, path_key="video", start_key="from", end_key="to")
    assert [(c.id, c.start_s, c.end_s, c.captions, c.group) for c in found.clips] == [
        ("v/a@0-2.5", 0.0, 2.5, ("하나.",), "v/a"),
        ("v/a@2.5-", 2.5, None, ("둘.", "둘째 말."), "v/a"),
    ]
    assert [r.kind for r in found.rejected] == ["broken label", "broken label"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("start", "unknown column 'start'; did you mean 'start_s'.* data.start_key"),
        ("group_id", "unknown column 'group_id'; did you mean 'group'.* data.group_key"),
        ("width", "unknown column 'width'; .*data.ignore_keys"),
    ],
)
def test_an_unknown_column_is_an_error_with_the_nearest_known_one(root, layout, column, says):
    rows = [{"path": "v/a.mp4", "caption": "말.", column: "1"}]
    with pytest.raises(StudyError, match=says):
        scan(root, layout, rows)
    for ignored in (column, "*"):
        assert len(scan(root, layout, rows, ignore_keys=(ignored,)).clips) == 1


@pytest.mark.parametrize(
    ("row", "keys", "says"),
    [
        ({"path": "v/a.mp4", "text": "말."}, {}, r"no column 'caption'.*'path', 'text'"),
        ({"file": "v/a.mp4", "caption": "말."}, {}, r"neither a column 'path' nor 'id'.*'file'"),
        (
            {"path": "v/a.mp4", "caption": "말.", "film": "x"},
            {"group_key": "flim"},
            "no column 'flim', which data.group_key names; did you mean 'film'",
        ),
    ],
)
def test_a_column_that_is_needed_and_absent_is_named(root, row, keys, says):
    with pytest.raises(StudyError, match=says):
        scan(root, "csv", [row], **keys)


@pytest.mark.parametrize(
    ("value", "group"),
    [(3.0, "3"), (3, "3"), (["x"], "x"), (["x", "x"], "x"), ("", "a"), (float("nan"), "a")],
)
def test_numbers_and_lists_of_one_are_texts(root, value, group):
    found = scan(root, "jsonl", [{"id": "a", "path": "v/a.mp4", "caption": "말.", "group": value}])
    assert [clip.group for clip in found.clips] == [group]
    assert not found.left_out


@pytest.mark.parametrize("value", [["x", "y"], {"name": "x"}, True])
def test_an_optional_key_never_costs_a_clip(root, value):
    row = {"id": "a", "path": "v/a.mp4", "caption": "말.", "category": value}
    found = scan(root, "jsonl", [row])
    assert [clip.category for clip in found.clips] == [None]
    assert found.left_out == {("category", type(value).__name__): 1}


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("named", ["NFC", "NFD"])
def test_korean_paths_match_whichever_way_they_are_composed(tmp_path, stored, named):
    path = "영상/강아지.mp4"
    file = tmp_path / unicodedata.normalize(stored, path)
    file.parent.mkdir()
    file.touch()
    row = {"path": unicodedata.normalize(named, path), "caption": "말."}
    (clip,) = scan(tmp_path, "csv", [row]).clips
    assert (tmp_path / clip.path).is_file()


def test_an_id_names_a_file_of_any_container_in_any_subfolder(root):
    (root / "v/deep").mkdir()
    for name in ("e.webm", "deep/f.AVI", "twice.mp4", "deep/twice.mkv"):
        (root / "v" / name).touch()
    rows = [{"id": name, "caption": "말."} for name in ("a", "e", "f", "twice", "none")]
    found = scan(root, "csv", rows, video_folder="v")
    assert [clip.path for clip in found.clips] == ["v/a.mp4", "v/e.webm", "v/deep/f.AVI"]
    assert {r.id: r.kind for r in found.rejected} == {
        "twice": "duplicate id",
        "none": "label without clip",
    }


def test_one_id_of_two_files_is_nobody_s(root):
    rows = [{"id": "x", "path": f"v/{name}.mp4", "caption": "말."} for name in "ab"]
    found = scan(root, "parquet", rows)
    assert not found.clips and [r.kind for r in found.rejected] == ["duplicate id"] * 2


@pytest.mark.parametrize("path", ["../a.mp4", "v/../../a.mp4", "/etc/hostname", "x" * 5000])
@pytest.mark.parametrize("follow_links", [False, True])
def test_no_path_leads_out(root, path, follow_links):
    rows = [{"id": "x", "path": path, "caption": "말."}]
    found = scan(root, "jsonl", rows, follow_links=follow_links)
    expected = "label without clip" if path.startswith("x") else "outside"
    assert not found.clips and [r.kind for r in found.rejected] == [expected]


def test_an_absolute_path_within_the_dataset_is_one_of_it(root):
    (clip,) = scan(root, "csv", [{"path": str(root / "v/a.mp4"), "caption": "말."}]).clips
    assert clip.path == "v/a.mp4"


def test_links_are_followed_where_the_config_says_so(tmp_path, tmp_path_factory):
    disk = tmp_path_factory.mktemp("another disk")
    (disk / "a.mp4").touch()
    (tmp_path / "far").symlink_to(disk)
    (tmp_path / "b.mp4").symlink_to(disk / "a.mp4")
    rows = [{"path": path, "caption": "말."} for path in ("far/a.mp4", "b.mp4")]
    refused = scan(tmp_path, "csv", rows)
    assert not refused.clips and {r.kind for r in refused.rejected} == {"outside"}
    found = scan(tmp_path, "csv", rows, follow_links=True)
    assert [clip.path for clip in found.clips] == ["far/a.mp4", "b.mp4"]


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.mp4").touch()
    (tmp_path / "train/a.txt").write_text("말.")
    (tmp_path / "train/again").symlink_to(tmp_path / "train")
    (tmp_path / "train/itself.mp4").symlink_to("itself.mp4")
    found = scan_split(DataConfig(layout="folder", follow_links=True), tmp_path, "train")
    assert [clip.path for clip in found.clips] == ["train/a.mp4"]
    assert {r.path: r.kind for r in found.rejected} == {
        "train/again": "outside",
        "train/itself.mp4": "unreadable",
    }


@pytest.mark.parametrize(
    ("layout", "content", "says"),
    [
        ("csv", "경로,말\n".encode("cp949"), "not UTF-8"),
        ("csv", b"", r"train\.csv: no readable table"),
        ("csv", b'path,caption\n"a', r"train\.csv: no readable table|no usable"),
        ("parquet", b"PAR1", r"train\.parquet: not Parquet"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, layout, content, says):
    (tmp_path / f"train.{layout}").write_bytes(content)
    with pytest.raises(StudyError, match=says):
        scan_split(DataConfig(layout=layout), tmp_path, "train")


def test_a_tsv_is_read_where_there_is_no_csv(root):
    (root / "train.tsv").write_text("path\tcaption\nv/a.mp4\t공, 그리고 개.\n")
    (clip,) = scan_split(DataConfig(layout="csv"), root, "train").clips
    assert clip.captions == ("공, 그리고 개.",)


@pytest.mark.parametrize("blank", ["\u200b", "\u3164\u3164", "\u2800", "\ufeff \u00ad", "\u0301"])
def test_a_caption_that_shows_nothing_is_none(root, blank):
    found = scan(root, "jsonl", [{"path": "v/a.mp4", "captions": [blank, "말."]}])
    assert [clip.captions for clip in found.clips] == [("말.",)]
    found = scan(root, "jsonl", [{"path": "v/a.mp4", "caption": blank}])
    assert [r.kind for r in found.rejected] == ["no caption"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("a.b", 1),
        ("notes.text", ["하나", "둘"]),
        ("notes.1.text", "둘"),
        ("notes.parts.name", ["x", "y"]),
        ("notes.none", None),
        ("notes.7.text", None),
        ("dotted.name", 2),
    ],
)
def test_a_dotted_key_walks_through_lists(key, value):
    notes = [{"text": "하나", "parts": [{"name": "x"}, {"name": "y"}]}, {"text": "둘"}]
    assert lookup({"a": {"b": 1}, "notes": notes, "dotted.name": 2}, key) == value


def test_unreadable_folders_are_named(root):
    (root / "v/closed").mkdir(mode=0)
    if os.access(root / "v/closed", os.R_OK):
        pytest.skip("this user may read every folder")
    with pytest.raises(StudyError, match="closed: cannot be read"):
        scan(root, "csv", [{"id": "nowhere", "caption": "말."}])
