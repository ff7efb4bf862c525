import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.config.study import DataConfig
from siglip_study.data import layouts
from siglip_study.data.labels import Scan
from siglip_study.data.layouts import get_layout, layout_names, reader_code, scan_split

GUIDE = Path(__file__).parents[2] / "docs" / "add-a-dataset.md"


def scan(root: Path, **keys: str) -> Scan:
    return scan_split(DataConfig(**keys), root, "train")


def kinds(found: Scan) -> dict[str, str]:
    """Id → kind of the reason."""
    return {r.id: r.reason.split(":")[0] for r in found.rejected}


def test_aihub_reads_clips_in_subfolders(aihub):
    aihub("a/one", source="tape 7", category="동물")
    root = aihub("two", caption=["첫째 문장. ", "", "둘째 문장."])
    first, second = scan(root).clips
    assert (first.id, first.path, first.group) == ("one", "train/videos/a/one.mp4", "tape 7")
    assert first.category == "동물"
    assert second.captions == ("첫째 문장.", "둘째 문장.")
    assert (second.group, second.category) == ("two", None)


def test_a_name_is_the_same_in_nfc_and_nfd(aihub):
    name = "강아지"
    root = aihub(unicodedata.normalize("NFD", name))
    (root / "train/labels" / f"{unicodedata.normalize('NFD', name)}.json").rename(
        root / "train/labels" / f"{name}.json"
    )
    (clip,) = scan(root).clips
    assert clip.id == name and (root / clip.path).is_file()


def label(caption: str) -> bytes:
    return b'{"annotation": {"description_kr": %s}}' % caption.encode()


NO_OBJECT = [b"{", b"", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000]
NO_TEXT = [label(caption) for caption in ("7", '["a", 7]', '{"ko": "a"}', '"\\ud83d"')]
EMPTY = [label(caption) for caption in ('""', '" \\n\\t"', "[]", '["", " "]', "null")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *((content, "broken label") for content in (*NO_OBJECT, *NO_TEXT)),
        *((content, "no caption") for content in EMPTY),
    ],
    ids=lambda value: value[-20:] if isinstance(value, bytes) else "",
)
def test_unusable_labels(aihub, content, reason):
    root = aihub("clip")
    (root / "train/labels/clip.json").write_bytes(content)
    found = scan(root)
    assert not found.clips and kinds(found) == {"clip": reason}
    assert found.rejected[0].path == "train/labels/clip.json"


def test_other_keys_can_be_named(aihub):
    root = aihub("clip")
    record = {"a": {"b": {"c": "말"}}, "tape": 12, "kind": "x"}
    (root / "train/labels/clip.json").write_text(json.dumps(record))
    (clip,) = scan(root, caption_key="a.b.c", group_key="tape", category_key="kind").clips
    assert (clip.captions, clip.group, clip.category) == (("말",), "12", "x")


def test_lonely_and_doubled_files_are_told_apart(aihub):
    for name in ("whole", "no_label", "no_clip", "x/twice", "y/twice"):
        root = aihub(name)
    (root / "train/labels/no_label.json").unlink()
    (root / "train/videos/no_clip.mp4").unlink()
    (root / "train/videos/._whole.mp4").write_bytes(b"macOS")
    (root / "train/videos/notes.txt").write_text("not a clip")
    found = scan(root)
    assert [clip.id for clip in found.clips] == ["whole"]
    assert kinds(found) == {
        "no_label": "clip without label",
        "no_clip": "label without clip",
        "twice": "duplicate id",
    }
    assert sum(r.id == "twice" for r in found.rejected) == 2


def test_links_that_leave_the_root_are_refused(aihub, tmp_path_factory, clips):
    root = aihub("clip")
    aihub("inside")
    (root / "train/videos/leak.mp4").symlink_to(clips["plain"])
    (root / "train/videos/folder").symlink_to(tmp_path_factory.mktemp("outside"))
    (root / "train/videos/alias.mp4").symlink_to(root / "train/videos/inside.mp4")
    (root / "train/labels/alias.json").write_bytes((root / "train/labels/inside.json").read_bytes())
    found = scan(root)
    assert [clip.id for clip in found.clips] == ["alias", "clip", "inside"]
    assert kinds(found) == {"leak": "outside", "folder": "outside"}


def test_a_split_folder_that_leaves_the_root_is_an_error(tmp_path, tmp_path_factory):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/videos").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(StudyError, match="leads out of the dataset's folder"):
        scan(tmp_path)


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ("aihub", "train/videos: no such folder"),
        ("jsonl", r"train\.jsonl: no such file"),
        ("AIHub", rf"data\.layout is 'AIHub'; expected one of {', '.join(layout_names())}, or a"),
        ("base", rf"data\.layout is 'base'; expected one of {', '.join(layout_names())}, or a"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, layout, says):
    with pytest.raises(StudyError, match=says):
        scan(tmp_path, layout=layout)


def test_jsonl(tmp_path):
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
        {"caption": "이름도 파일도 없다"},
        {"id": "h", "path": "v/\0.mp4", "caption": "널"},
    ]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n{broken\n"
    (tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
    found = scan(tmp_path, layout="jsonl")
    assert [(c.id, c.path, c.captions, c.group, c.category) for c in found.clips] == [
        ("a", "v/a.mp4", ("하나",), "a", None),
        ("b", "v/b.mp4", ("둘", "셋"), "3", "k"),
    ]
    assert kinds(found) == {
        **{"c": "outside", "d": "outside", "e": "label without clip"},
        **{"f": "no caption", "g": "duplicate id"},
        **dict.fromkeys(("train.jsonl:9", "h", "train.jsonl:12"), "broken label"),
    }


@pytest.fixture
def written_layout(tmp_path, monkeypatch):
    """Put a file into the package, for the length of a test."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(folder)])

    def write(name: str, source: str) -> None:
        monkeypatch.delitem(sys.modules, f"{layouts.__name__}.{name}", raising=False)
        (folder / f"{name}.py").write_text(source, encoding="utf-8")

    return write


def test_the_guide_works_as_written(tmp_path, written_layout):
    """The block of the guide that names its file, under another name, reads what it says."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = [re.match(r"# src/siglip_study/data/layouts/(\w+)\.py\n", block) for block in blocks]
    ((match, source),) = [(m, b) for m, b in zip(named, blocks, strict=True) if m]
    name = f"{match[1]}_of_the_guide"
    written_layout(name, source)
    assert name in layout_names()
    for folder, suffix, names in (("clips", "mp4", "abd"), ("texts", "txt", "abc")):
        (tmp_path / "train" / folder).mkdir(parents=True)
        for stem in names:
            content = "\n 빨간 공. \n둘째.\n" if stem == "a" else "\n"
            (tmp_path / "train" / folder / f"{stem}.{suffix}").write_text(content)
    found = scan(tmp_path, layout=name)
    (clip,) = found.clips
    assert (clip.id, clip.path) == ("a", "train/clips/a.mp4")
    assert clip.captions == ("빨간 공.", "둘째.")
    expected = {"b": "no caption", "c": "label without clip", "d": "clip without label"}
    assert kinds(found) == expected


def test_a_file_of_labels_that_cannot_be_read_is_named(tmp_path, written_layout):
    source = "from siglip_study.data.files import split_file\n"
    source += "from siglip_study.data.labels import read_text\n\n"
    source += "def read(source):\n    read_text(split_file(source, f'{source.folder}.csv')[1])\n"
    written_layout("table", source)
    with pytest.raises(StudyError, match=r"train\.csv: no such file"):
        scan(tmp_path, layout="table")
    (tmp_path / "train.csv").write_bytes(b"\xff")
    with pytest.raises(StudyError, match=r"'train' of .*, layout 'table': broken label: not UTF-8"):
        scan(tmp_path, layout="table")


def test_a_layout_is_a_function_read(written_layout):
    written_layout("silent", "VALUE = 1\n")
    with pytest.raises(StudyError, match=r"silent\.py has no function read"):
        get_layout("silent")


def test_aihub_reads_every_container_and_folders_by_their_own_names(tmp_path):
    for name in ("a.avi", "b.MOV", "c.webm"):
        video = tmp_path / "Training/원천데이터/VS1" / name
        label = tmp_path / "Training/라벨링데이터/VL1" / f"{Path(name).stem}.json"
        for path in (video, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        video.touch()
        notes = [{"attributes": [{"caption_ko": f"{name} 하나."}]}, {"caption_en": "one"}]
        label.write_text(json.dumps({"annotations": notes}, ensure_ascii=False))
    data = DataConfig(
        video_folder="원천데이터",
        label_folder="라벨링데이터",
        caption_key="annotations.attributes.caption_ko",
    )
    found = scan_split(data, tmp_path, "Training")
    assert [clip.captions for clip in found.clips] == [
        ("a.avi 하나.",),
        ("b.MOV 하나.",),
        ("c.webm 하나.",),
    ]
    assert not found.rejected


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"group_key": "meta.sorce"}, "data.group_key is 'meta.sorce'.*did you mean 'meta.source'"),
        ({"category_key": "kind"}, "data.category_key is 'kind'.*stands in none of 2 labels"),
    ],
)
def test_a_key_of_the_config_that_stands_in_no_label_is_an_error(aihub, keys, says):
    aihub("a", source="tape")
    root = aihub("b", source="tape")
    with pytest.raises(StudyError, match=says):
        scan(root, **keys)


def test_a_caption_under_another_key_names_the_nearest(aihub):
    root = aihub("clip")
    (rejected,) = scan(root, caption_key="annotation.description").rejected
    assert rejected.reason.endswith("did you mean 'annotation.description_kr'?")


@pytest.mark.parametrize(
    ("layout", "key", "value"),
    [
        ("aihub", "id_key", "name"),
        ("folder", "video_folder", "videos"),
        ("csv", "label_folder", "labels"),
        ("vatex", "ignore_keys", ("x",)),
    ],
)
def test_a_key_that_the_layout_does_not_read_is_an_error(tmp_path, layout, key, value):
    with pytest.raises(StudyError, match=f"data.{key} is .*'{layout}' does not read it"):
        scan(tmp_path, layout=layout, **{key: value})


def test_a_label_of_aihub_may_name_a_segment(aihub):
    for name, times in {"a": {"from": 1.5, "to": "3"}, "b": {"from": 3, "to": 1}, "c": {}}.items():
        root = aihub(name, **times)
    found = scan(root, start_key="meta.from", end_key="meta.to")
    assert [(c.id, c.start_s, c.end_s) for c in found.clips] == [("a", 1.5, 3.0), ("c", None, None)]
    assert kinds(found) == {"b": "broken label"}


def test_a_folder_of_pairs(tmp_path):
    for name in ("a.mp4", "b.mkv", "c.mp4", "d.mp4"):
        (tmp_path / "train/deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train/deep" / name).touch()
    (tmp_path / "train/deep/a.txt").write_text("하나.\n둘.\n")
    (tmp_path / "train/deep/a.json").write_text('{"caption": "셋.", "group": 7, "category": "x"}')
    (tmp_path / "train/deep/b.json").write_text('{"caption": "넷.", "width": 320}')
    (tmp_path / "train/deep/c.json").write_text('{"text": "다섯."}')
    found = scan(tmp_path, layout="folder")
    assert [(c.id, c.captions, c.group, c.category) for c in found.clips] == [
        ("a", ("하나.", "둘."), "7", "x"),
        ("b", ("넷.",), "b", None),
    ]
    assert kinds(found) == {"c": "no caption", "d": "clip without label"}


# ---- A reader of one's own, outside the package.

OWN = '''
from siglip_study.data.labels import ListedClip, Scan


def listing(source):
    """Clips are named in a list."""
    lines = (source.root / f"{source.folder}.list").read_text().splitlines()
    return Scan([ListedClip(line, f"{line}.mp4", ("말.",), line) for line in lines])
'''


@pytest.fixture
def own_reader(tmp_path, monkeypatch):
    """The working directory, with a module ``my_reader_<n>``; gives its name and file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / f"my_reader_{tmp_path.name}.py"
    file.write_text(OWN, encoding="utf-8")
    return file.stem, file


def test_a_reader_of_ones_own_is_module_and_function(own_reader, tmp_path):
    (tmp_path / "train.list").write_text("a\nb\n")
    name, _ = own_reader
    assert [c.id for c in scan(tmp_path, layout=f"{name}:listing").clips] == ["a", "b"]


def test_what_runs_again_follows_the_code_of_ones_own_reader(own_reader):
    name, file = own_reader
    before = reader_code(f"{name}:listing")
    file.write_text(OWN.replace("Clips are named", "# Names of clips stand"), encoding="utf-8")
    assert reader_code(f"{name}:listing") == before
    file.write_text(OWN.replace(".mp4", ".mkv"), encoding="utf-8")
    assert reader_code(f"{name}:listing") != before
    assert reader_code("csv") is None


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ("no_such_module:read", "expected module:function, with a module in the working directory"),
        ("os.system;x:read", "expected module:function"),
        ("../x:read", "expected module:function"),
        ("msrvt", "did you mean 'msrvtt'"),
    ],
)
def test_a_layout_that_is_not_there_is_named(layout, says):
    with pytest.raises(StudyError, match=re.escape(says)):
        reader_code(layout)


def test_a_module_that_cannot_be_imported_or_lacks_the_function_is_named(own_reader):
    name, file = own_reader
    with pytest.raises(StudyError, match="has no function read"):
        get_layout(f"{name}:read")
    broken = file.with_name(f"{name}_broken.py")
    broken.write_text("import no_such_thing\n")
    with pytest.raises(StudyError, match="raises ModuleNotFoundError"):
        get_layout(f"{broken.stem}:read")
