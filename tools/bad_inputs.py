"""Bad inputs of every kind, and the page of what a user reads of each.

Run with: ``python -m tools.bad_inputs docs/bad-inputs.md``
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import yaml
from PIL import Image

from siglip_study.base.errors import StudyError
from siglip_study.config import load, parse
from siglip_study.config.study import DataConfig
from siglip_study.data.layouts import scan_split
from siglip_study.data.manifest import vet_split
from siglip_study.data.vetting import vet
from siglip_study.planning.preflight import preflight
from siglip_study.study import Study
from siglip_study.training import code as training_code
from tools.pages import write_tables
from tools.video_kinds import KINDS

_DEMO = Path(__file__).parents[1] / "resources" / "demo"


_Told = Callable[[Path], str]


@dataclass(frozen=True)
class BadInput:
    """A bad input: ``told(folder)`` makes it in an empty folder and says what a user reads."""

    kind: str
    what: str
    told: _Told


def _sentence(work: Callable[[], object]) -> str:
    """What a user reads of ``work``; "" where it passes."""
    try:
        work()
    except StudyError as error:
        return str(error)
    return ""


# ---- Configs: keys that are put into a whole one, or the content of the file.

_WHOLE: dict[str, Any] = {"data": {"root": "clips"}, "projectors": {"linear": {}}}
_HALVES = {"root": "clips", "splits": {"train": "train", "held_out": "val"}}
_HOT = {"projector": "linear", "stage1_learning_rate": 1}
# Each line holds nine of the one before: 9⁸ words at the end.
_GROWING = "a0: &a0 x\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
_CONFIGS: dict[str, Mapping[Any, Any] | str | bytes | None] = {
    "no such file": None,
    "an empty file": "",
    "a list": "- a\n- b\n",
    "not YAML": "data: [",
    "a tab for an indent": "data:\n\troot: clips\n",
    "a control character": "data: \x00",
    "saved as CP949": "title: 제목".encode("cp949"),
    "saved as UTF-16": "data: {root: clips}".encode("utf-16"),
    "a key twice": "data: {root: clips}\nprojectors: {linear: {}}\ndata: {root: others}\n",
    "a YAML tag that asks for code": "data: !!python/object/apply:os.system [date]\n",
    "anchors that grow": _GROWING,
    "nested 500 deep": "data: " + "[" * 500 + "]" * 500,
    "a number of 5,000 digits": "demo: {train: 1" + "0" * 5000 + "}\nprojectors: {linear: {}}",
    "an unknown section": {"modles": {}},
    "an unknown key": {"data": {"root": "clips", "layuot": "csv"}},
    "a key that is no text": {1: 2},
    "a section that is a list": {"stage1": []},
    "no projectors": {"projectors": {}},
    "a projector's label with a path in it": {"projectors": {"../x": {}}},
    "a projector of no kind": {"projectors": {"mpl_2l": {}}},
    "options of a text": {"projectors": {"linear": {"options": "queries: 4"}}},
    "no dataset": {"data": {}},
    "an empty `data.root`": {"data": {"root": ""}},
    "one folder for two splits": {
        "data": {"root": "clips", "splits": {"train": "all", "held_out": "./all"}}
    },
    "half of the splits": {"data": {"root": "clips", "splits": {"train": "train"}}},
    "splits of other names": {
        "data": {"root": "clips", "splits": {"train": "a", "test": "b", "val": "c"}}
    },
    "a duration that is no number": {"data": {"root": "clips", "min_duration_s": "short"}},
    "a negative duration": {"data": {"root": "clips", "min_duration_s": -1}},
    "columns to ignore as one text": {"data": {"root": "clips", "ignore_keys": "width"}},
    "a negative number of workers": {"data": {"root": "clips", "workers": -1}},
    "braces in `output_dir`": {"output_dir": "results/{run}"},
    "an empty `output_dir`": {"output_dir": ""},
    "a line break in `output_dir`": {"output_dir": "results\n"},
    "a home folder of nobody": {"output_dir": "~nobody-of-this-name/results"},
    "a folder's name of 300 letters": {"output_dir": "a" * 300},
    "a date for a folder": "output_dir: 2026-01-01\nprojectors: {linear: {}}\n",
    "half a character in the title": 'report: {title: "\\ud800"}\nprojectors: {linear: {}}\n',
    "two documents in one file": "data: {root: clips}\n---\nprojectors: {linear: {}}\n",
    "projectors as a list": {"projectors": ["linear", "mlp_2l"]},
    "a label that YAML takes for a switch": "projectors: {no: {type: linear}}\n",
    "a demo without clips": {"demo": {"train": 0}},
    "a negative seed of the demo": {"demo": {"seed": -1}},
    "no frames": {"vision": {"frames": 0}},
    "a million frames": {"vision": {"frames": 1_000_000}},
    "a million frames to score": {"scorer": {"frames": 1_000_000}},
    "an empty model": {"llm": {"model": ""}},
    "a model that is a list": {"vision": {"model": ["a/b"]}},
    "a quantisation of no kind": {"llm": {"quantization": "int8"}},
    "one vision marker of two": {"llm": {"vision_markers": ["<a>"]}},
    "no LoRA targets": {"llm": {"lora": {"targets": []}}},
    "LoRA targets as one text": {"llm": {"lora": {"targets": "q_proj"}}},
    "a LoRA target twice": {"llm": {"lora": {"targets": ["q_proj", "q_proj"]}}},
    "a rank of 0": {"llm": {"lora": {"r": 0}}},
    "a dropout of 1": {"llm": {"lora": {"dropout": 1.0}}},
    "a rate that is no number": {"stage1": {"learning_rate": "fast"}},
    "a rate of 0": {"stage1": {"learning_rate": 0}},
    "an endless rate": {"stage1": {"learning_rate": float("inf")}},
    "one and a half epochs": {"stage1": {"epochs": 1.5}},
    "epochs of a switch": {"stage1": {"epochs": True}},
    "a tuned key of stage 2": {"stage2": {"learning_rate": 1e-4}},
    "weights chosen by what is reported": {"data": _HALVES, "stage1": {"keep": "val_loss"}},
    "rates that are no list": {"grid": {"learning_rate": 1e-3}},
    "a batch of 10¹⁵ clips": {"stage1": {"batch_size": 10**15}},
    "a million permutations": {"controls": {"permuted_draws": 1_000_000}},
    "a grid of a million points": {
        "grid": {f"stage1.{key}": [*range(1, 101)] for key in ("epochs", "batch_size")}
        | {"llm.lora.r": [*range(1, 101)]}
    },
    "an empty grid": {"grid": {"epochs": []}},
    "a rate twice": {"grid": {"learning_rate": [1e-4, 1e-4]}},
    "a rank of 0 on an axis": {"grid": {"llm.lora.r": [0, 8]}},
    "an axis that no training depends on": {"grid": {"captions.shuffles": [1, 2]}},
    "an exclude that leaves nothing out": {"grid": {"exclude": [{"llm.lora.r": 9}]}},
    "a tuning seed that is reported": {"seeds": {"tuning": 1, "report": [1, 2]}},
    "a seed twice": {"seeds": {"report": [1, 1]}},
    "no seeds": {"seeds": {"report": []}},
    "a negative seed": {"seeds": {"report": [-1]}},
    "a seed of 30 digits": {"seeds": {"report": [10**30]}},
    "a control of no projector": {"controls": {"noise_features": "mlp"}},
    "a hot control without a rate": {"controls": {"hot": _HOT}},
    "a level of 5": {"gate": {"alpha": 5}},
    "a level of 0": {"gate": {"alpha": 0}},
    "a device of no kind": {"runtime": {"device": "cuda:1"}},
    "no memory": {"runtime": {"memory_gb": 0}},
    "a language of no kind": {"report": {"language": "fr"}},
}


def _config(content: Mapping[Any, Any] | str | bytes | None) -> _Told:
    def told(folder: Path) -> str:
        path = folder / "study.yaml"
        if isinstance(content, Mapping):
            path.write_text(yaml.safe_dump({**_WHOLE, **content}), encoding="utf-8")
        elif content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

        def work() -> None:
            for cell in Study(load(path)).cells.values():
                training_code(cell.run.projector)

        return _sentence(work)

    return told


# ---- Labels: the content of one beside a good one, in AI-Hub's layout.


def _caption(text: object) -> bytes:
    return json.dumps({"annotation": {"description_kr": text}}).encode()


def _segment(start: object, end: object) -> bytes:
    text = {"annotation": {"description_kr": "A ball."}, "start_s": start, "end_s": end}
    return json.dumps(text).encode()


_LABELS: dict[str, bytes] = {
    "an empty label": b"",
    "a cut label": b'{"annotation": {"descr',
    "a label that is a list": b"[1]",
    "a label in CP949": '{"annotation": {"description_kr": "공"}}'.encode("cp949"),
    "a label in UTF-16": _caption("A ball.").decode().encode("utf-16"),
    "a label nested 100,000 deep": b"[" * 100_000,
    "a number of 5,000 digits in a label": b'{"frames": 1' + b"0" * 5000 + b"}",
    "a label without a caption": b'{"annotation": {}}',
    "a caption under another key": b'{"annotation": {"description_ko": "A ball."}}',
    "a caption of null": _caption(None),
    "an empty caption": _caption(" \n"),
    "a caption of characters that show nothing": _caption("\u3164\u200b"),
    "a caption that is a number": _caption(7),
    "captions among numbers": _caption(["A ball.", 7]),
    "a caption of half a character": b'{"annotation": {"description_kr": "\\ud83d"}}',
    "a caption that is a mapping": _caption({"ko": "A ball."}),
    "a segment that ends before it starts": _segment(3, 2),
    "a segment of a negative start": _segment(-1, 2),
    "a segment of words": _segment("soon", None),
    "a segment that starts at a switch": _segment(True, None),
    "a label of two objects": _caption("A ball.") + b" {}",
    "captions in lists of lists": _caption([["A ball."]]),
    "a segment of NaN": b'{"annotation": {"description_kr": "A."}, "start_s": "nan"}',
    "a segment of 10³⁰⁰⁰ seconds": b'{"annotation": {"description_kr": "A."}, "end_s": 1e3000}',
}


def _pair(
    folder: Path, name: str, label: bytes = _caption("A ball."), split: str = "train"
) -> Path:
    """A clip of no content, which no reader opens, and its label."""
    for kind, suffix, content in (("videos", ".mp4", b""), ("labels", ".json", label)):
        path = folder / split / kind / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / split / "videos" / f"{name}.mp4"


def _scanned(folder: Path, **keys: object) -> str:
    """What is said of a split: its rejections, or why there is none."""
    data = parse({**_WHOLE, "data": {"root": str(folder), **keys}}).data
    told: list[str] = []

    def work() -> None:
        found = scan_split(data, folder, "train")
        told.extend(f"{one.path}: {one.reason}" for one in found.rejected)

    return _sentence(work) or "; ".join(told)


def _label(content: bytes) -> _Told:
    def told(folder: Path) -> str:
        _pair(folder, "good")
        _pair(folder, "bad", content)
        return _scanned(folder)

    return told


# ---- Files of a dataset.


def _link_to_itself(folder: Path) -> None:
    path = _pair(folder, "bad")
    path.unlink()
    path.symlink_to(path)


def _links_in_a_circle(folder: Path) -> None:
    for name, other in (("bad", "worse"), ("worse", "bad")):
        path = _pair(folder, name)
        path.unlink()
        path.symlink_to(path.with_name(f"{other}.mp4"))


def _label_link_to_itself(folder: Path) -> None:
    path = _pair(folder, "bad").parents[1] / "labels" / "bad.json"
    path.unlink()
    path.symlink_to(path)


def _folder_for_a_label(folder: Path) -> None:
    path = _pair(folder, "bad").parents[1] / "labels" / "bad.json"
    path.unlink()
    path.mkdir()


def _link_out(folder: Path) -> None:
    path = _pair(folder, "bad")
    path.unlink()
    path.symlink_to("/etc/hostname")


def _broken_link(folder: Path) -> None:
    path = _pair(folder, "bad")
    path.unlink()
    path.symlink_to(folder / "gone.mp4")


def _linked_folder(folder: Path) -> None:
    (folder / "train" / "videos" / "more").symlink_to("/etc")


def _folder_of_itself(folder: Path) -> None:
    (folder / "train" / "videos" / "more").symlink_to(folder / "train" / "videos")


def _folder_named_like_a_clip(folder: Path) -> None:
    path = _pair(folder, "bad")
    path.unlink()
    path.mkdir()


def _pipe(folder: Path) -> None:
    path = _pair(folder, "bad")
    path.unlink()
    os.mkfifo(path)


def _without_videos(folder: Path) -> None:
    shutil.rmtree(folder / "train" / "videos")


def _odd_name(folder: Path) -> None:
    name = os.fsencode(folder / "train" / "videos") + b"/\xff.mp4"
    with open(name, "wb"):  # noqa: PTH123 (a name that no text spells)
        pass


def _twice(folder: Path) -> None:
    _pair(folder, "a/bad")
    _pair(folder, "b/bad")


def _without(part: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        name = {"videos": "bad.mp4", "labels": "bad.json"}[part]
        (_pair(folder, "bad").parents[1] / part / name).unlink()

    return spoil


_FILES: dict[str, Callable[[Path], object]] = {
    "a clip that is a link to itself": _link_to_itself,
    "clips that are links to each other": _links_in_a_circle,
    "a label that is a link to itself": _label_link_to_itself,
    "a folder in the place of a label": _folder_for_a_label,
    "a folder named like a clip": _folder_named_like_a_clip,
    "a link that leads out": _link_out,
    "a link to nothing": _broken_link,
    "a linked folder": _linked_folder,
    "a link to the folder it is in": _folder_of_itself,
    "a pipe named like a clip": _pipe,
    "a name that is no UTF-8": _odd_name,
    "a clip without label": _without("labels"),
    "a label without clip": _without("videos"),
    "one name in two folders": _twice,
    "a split without its folder of videos": _without_videos,
    "a root that is no folder": lambda f: shutil.rmtree(f),
}


def _files(spoil: Callable[[Path], object]) -> _Told:
    def told(folder: Path) -> str:
        _pair(folder / "clips", "good")
        spoil(folder / "clips")
        return _scanned(folder / "clips")

    return told


# ---- Tables: the content of one beside a clip a.mp4, by the layout that reads it.

_LONG = "v/" + "a" * 5000 + ".mp4"
_TABLES: dict[str, tuple[str, str | bytes, dict[str, object]]] = {
    "an empty table": ("csv", "", {}),
    "a table in CP949": ("csv", "path,caption\na.mp4,공\n".encode("cp949"), {}),
    "a table without captions": ("csv", "path,text\na.mp4,A ball.\n", {}),
    "a table without paths": ("csv", "file,caption\na.mp4,A ball.\n", {}),
    "an unknown column": ("csv", "path,caption,widht\na.mp4,A ball.,7\n", {}),
    "a column that the config names and is not there": (
        "csv",
        "path,caption\na.mp4,A ball.\n",
        {"group_key": "film"},
    ),
    "a column twice": ("csv", "path,caption,caption\na.mp4,A ball.,A.\n", {}),
    "a row with a cell too many": ("csv", "path,caption\na.mp4,A ball.,7\n", {}),
    "a quote that never ends": ("csv", 'path,caption\na.mp4,"A ball.\n', {}),
    "a row without a path": ("csv", "path,caption\n,A ball.\n", {}),
    "a row without a caption": ("csv", "path,caption\na.mp4,\n", {}),
    "a path that leads out": ("csv", "path,caption\n../a.mp4,A ball.\n", {}),
    "an absolute path": ("csv", "path,caption\n/etc/hostname,A ball.\n", {}),
    "a path to nothing": ("csv", "path,caption\nb.mp4,A ball.\n", {}),
    "one id of two files": ("csv", "id,path,caption\n1,a.mp4,A.\n1,b.txt,B.\n", {}),
    "a key that the layout does not read": ("csv", "path,caption\n", {"label_folder": "x"}),
    "semicolons for commas": ("csv", "path;caption\na.mp4;A ball.\n", {}),
    "a table in UTF-16": ("csv", "path,caption\na.mp4,A.\n".encode("utf-16"), {}),
    "a column without a name": ("csv", "path,caption,\na.mp4,A ball.,7\n", {}),
    "a folder for a clip": ("csv", "path,caption\n.,A ball.\n", {}),
    "an address for a path": ("csv", "path,caption\nhttps://example.org/a.mp4,A ball.\n", {}),
    "a reader of one's own that reads nothing": ("json:dumps", "", {}),
    "a line that is no JSON": ("jsonl", '{"path": "a.mp4", "caption": "A."}\n{broken\n', {}),
    "a line that is a list": ("jsonl", "[1]\n", {}),
    "a path of 5,000 characters": ("jsonl", json.dumps({"path": _LONG, "caption": "A."}), {}),
    "an id of 5,000 characters": ("jsonl", json.dumps({"id": "a" * 5000, "caption": "A."}), {}),
    "a path with a null character": ("jsonl", '{"path": "a\\u0000.mp4", "caption": "A."}', {}),
    "a path that is a list": ("jsonl", '{"path": ["a", "b"], "caption": "A."}', {}),
    "a number of 5,000 digits in a line": (
        "jsonl",
        '{"path": "a.mp4", "caption": "A.", "start_s": 1' + "0" * 5000 + "}",
        {},
    ),
    "seconds of 400 digits": (
        "jsonl",
        '{"path": "a.mp4", "caption": "A.", "start_s": 1' + "0" * 400 + "}",
        {},
    ),
    "a Parquet table that is a text": ("parquet", "path,caption\n", {}),
    "a published table of another shape": ("msrvtt", '{"videos": 7}', {}),
}


def _table(layout: str, content: str | bytes, keys: dict[str, object]) -> _Told:
    def told(folder: Path) -> str:
        for name in ("a.mp4", "b.txt"):
            (folder / name).touch()
        suffix = layout if layout in ("csv", "jsonl", "parquet") else "json"
        path = folder / f"train.{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return _scanned(folder, layout=layout, **keys)

    return told


# ---- Clips: what is done to the bytes of a good one.

_GOOD = next(kind for kind in KINDS if kind.container == ".mp4" and kind.trait == "B frames")


def write_sound(path: Path) -> None:
    """A file of sound without a picture."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        silence = np.zeros((1, 1600), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _bomb(path: Path) -> None:
    """A picture that says it has 40,000 × 40,000 pixels."""
    Image.new("1", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = 2 * (40_000).to_bytes(4, "big")  # IHDR: width, height
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


_CLIPS: dict[str, tuple[str, Callable[[bytes], bytes] | Callable[[Path], None]]] = {
    "no bytes": (".mp4", lambda content: b""),
    "a text": (".mp4", lambda content: b"no clip\n"),
    "a Git LFS pointer": (
        ".mp4",
        lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    ),
    "a page of a web server": (".mp4", lambda content: b"<!DOCTYPE html><html>404</html>"),
    "a playlist of other files": (".mp4", lambda content: b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
    "noise": (".mp4", lambda content: np.random.default_rng(0).bytes(5000)),
    "half of it": (".mp4", lambda content: content[: len(content) // 2]),
    "without its index": (".mp4", lambda content: content[: content.index(b"moov") - 4]),
    "sound alone": (".mp4", write_sound),
    "a folder": (".mp4", lambda path: path.mkdir()),
    "nothing of the name": (".mp4", lambda path: None),
    "a picture of no bytes": (".jpg", lambda content: b""),
    "a picture that is a text": (".png", lambda content: b"no picture"),
    "a picture of 1.6 billion pixels": (".png", _bomb),
}
_OF_PATHS = {"sound alone", "a folder", "nothing of the name", "a picture of 1.6 billion pixels"}


def _clip(what: str) -> _Told:
    suffix, make = _CLIPS[what]

    def told(folder: Path) -> str:
        path = folder / f"bad{suffix}"
        if what in _OF_PATHS:
            make(path)  # type: ignore[arg-type]
        else:
            path.write_bytes(make(_GOOD.write(folder).read_bytes()))  # type: ignore[arg-type]
        return str(vet(path, [(None, None)], "pyav", (8,))[0].get("reason", ""))

    return told


# ---- A dataset's splits, clips decoded.


def _split(put: Callable[[Path, bytes], object], **keys: object) -> _Told:
    """Of three splits with a clip each, after ``put(root, bytes of a clip)``."""

    def told(folder: Path) -> str:
        root = folder / "clips"
        clip = _GOOD.write(folder).read_bytes()
        for split in ("train", "selection", "report"):
            # A box that no decoder reads: without it every clip would be the same file.
            _pair(root, f"{split}-1", split=split).write_bytes(clip + _box(split))
        put(root, clip)
        data = DataConfig(root=str(root), workers=1, **keys)
        told: list[str] = []

        def work() -> None:
            rejected = vet_split(root, data, "train", (8,))[1].table()
            told.extend(": ".join(row) for row in rejected.select("path", "reason").iter_rows())

        return _sentence(work) or "; ".join(told)

    return told


def _box(name: str) -> bytes:
    content = b"free" + name.encode()
    return (len(content) + 4).to_bytes(4, "big") + content


def _emptied(root: Path, clip: bytes) -> None:
    for kind in ("videos", "labels"):
        shutil.rmtree(root / "train" / kind)
        (root / "train" / kind).mkdir()


def _group(root: Path, clip: bytes, *splits: str) -> None:
    label = {"annotation": {"description_kr": "A ball."}, "meta": {"source": "tape 7"}}
    for split in splits:
        path = _pair(root, f"{split}-2", json.dumps(label).encode(), split)
        path.write_bytes(clip + _box(f"{split}-2"))


_SPLITS: dict[str, _Told] = {
    "one id in two splits": _split(
        lambda root, clip: [
            _pair(root, "same", split=split).write_bytes(clip + _box(f"{split} same"))
            for split in ("train", "report")
        ]
    ),
    "one file in two splits": _split(
        lambda root, clip: [
            _pair(root, f"{split}-2", split=split).write_bytes(clip)
            for split in ("train", "report")
        ]
    ),
    "one source video in two splits": _split(
        lambda root, clip: _group(root, clip, "train", "report")
    ),
    "clips shorter than asked for": _split(lambda root, clip: None, min_duration_s=60),
    "clips of fewer frames than asked for": _split(lambda root, clip: None, min_frames=1000),
    "a split without a clip": _split(_emptied),
}


# ---- Models: what is done to copies of the demo's, or what the config says of them.


def _edit(part: str, name: str = "config.json", **changes: object) -> Callable[[Path], None]:
    def spoil(models: Path) -> None:
        path = models / part / name
        settings = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(settings | changes), encoding="utf-8")

    return spoil


def _write(part: str, name: str, content: bytes) -> Callable[[Path], object]:
    return lambda models: (models / part / name).write_bytes(content)


def _drop(part: str, *names: str) -> Callable[[Path], object]:
    def spoil(models: Path) -> None:
        for name in names:
            (models / part / name).unlink()

    return spoil


def _cut(part: str, name: str, share: float = 0.5) -> Callable[[Path], object]:
    def spoil(models: Path) -> None:
        content = (models / part / name).read_bytes()
        (models / part / name).write_bytes(content[: int(len(content) * share)])

    return spoil


def _tensors(part: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(models: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = models / part / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"format": "pt"})

    return spoil


def _first(tensors: dict[str, Any], ending: str) -> str:
    return next(name for name in sorted(tensors) if name.endswith(ending))


def _nan(tensors: dict[str, Any]) -> None:
    tensors[_first(tensors, "mlp.down_proj.weight")].fill_(float("nan"))


def _infinite(tensors: dict[str, Any]) -> None:
    tensors[_first(tensors, "q_proj.weight")][0, 0] = float("inf")


def _whole_numbers(tensors: dict[str, Any]) -> None:
    name = _first(tensors, "mlp.down_proj.weight")
    tensors[name] = tensors[name].char()


def _narrow(tensors: dict[str, Any]) -> None:
    name = _first(tensors, "down_proj.weight")
    tensors[name] = tensors[name][:, :-1].contiguous()


def _pickled(models: Path) -> None:
    (models / "llm" / "model.safetensors").rename(models / "llm" / "pytorch_model.bin")


def _index(content: bytes) -> Callable[[Path], object]:
    def spoil(models: Path) -> None:
        (models / "llm" / "model.safetensors").unlink()
        (models / "llm" / "model.safetensors.index.json").write_bytes(content)

    return spoil


def _sharded(weight_map: object) -> Callable[[Path], object]:
    return _index(json.dumps({"weight_map": weight_map}).encode())


def _image(**changes: object) -> Callable[[Path], None]:
    return _edit("vision", "preprocessor_config.json", **changes)


_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 16381470720\n"
_TEMPLATE = "chat_template.jinja"


def _template(text: str) -> Callable[[Path], object]:
    return _write("llm", _TEMPLATE, text.encode())


# By the check of `preflight` that looks at them.
_MODELS: dict[str, dict[str, Callable[[Path], object] | Mapping[str, Any]]] = {
    "vision": {
        "no such folder": {"vision": {"model": "./nowhere"}},
        "a model without config.json": _drop("vision", "config.json"),
        "a config.json that is cut": _cut("vision", "config.json"),
        "a pyramid for a tower": _edit("vision", model_type="swin"),
        "a million layers (tower)": _edit("vision", num_hidden_layers=1_000_000),
        "layers of a negative number": _edit("vision", num_hidden_layers=-1),
        "heads that do not divide the width": _edit("vision", num_attention_heads=7),
        "patches of 0 pixels": _edit("vision", patch_size=0),
        "a tower of smaller pictures": _edit("vision", image_size=8),
        "a hidden layer that is not there": {"vision": {"layer": -9}},
        "weights cut in half (tower)": _cut("vision", "model.safetensors"),
        "weights of NaN (tower)": _tensors(
            "vision", lambda t: t[_first(t, "fc1.weight")].fill_(float("nan"))
        ),
        "another width than that of the weights (tower)": _edit("vision", intermediate_size=700),
        "no image processor": _drop("vision", "preprocessor_config.json"),
        "an image processor of no kind": _image(image_processor_type="Mine"),
        "an image processor that is a list": _write("vision", "preprocessor_config.json", b"[]"),
        "an image processor whose size is a text": _image(size="large"),
        "an image processor whose size is 0": _image(crop_size={"height": 0, "width": 0}),
        "an image processor without a mean": _image(image_mean=0.5),
        "an image processor of another size": _image(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        "an image processor of no filter": _image(resample=77),
        "an image processor with a deviation of 0": _image(image_std=[0, 0, 0]),
        "an image processor with a mean of NaN": _image(image_mean=[float("nan")] * 3),
        "an image processor that makes all black": _image(rescale_factor=0),
        "pictures of one channel": _edit("vision", num_channels=1),
        "pictures of two sizes": _edit("vision", image_size=[64, 64]),
    },
    "llm": {
        "a config.json that is a list": _write("llm", "config.json", b"[1]"),
        "a config.json with a number of 5,000 digits": _write(
            "llm", "config.json", b'{"vocab_size": 1' + b"0" * 5000 + b"}"
        ),
        "a config.json nested 100,000 deep": _write("llm", "config.json", b"[" * 100_000),
        "a config.json without a type": _edit("llm", model_type=None),
        "a type that is a list": _edit("llm", model_type=["qwen3"]),
        "a language model of another kind": _edit("llm", model_type="gpt_neox"),
        "a tower for a language model": _edit("llm", model_type="siglip"),
        "a text_config that is a list": _edit("llm", text_config=[1]),
        "a million layers (LLM)": _edit("llm", num_hidden_layers=1_000_000, layer_types=None),
        "no layers": _edit("llm", num_hidden_layers=0, layer_types=[]),
        "layers of a text": _edit("llm", num_hidden_layers="four"),
        "a width of 10¹²": _edit("llm", hidden_size=10**12),
        "another width than that of the weights (LLM)": _edit("llm", intermediate_size=400),
        "more layers than the weights have": _edit(
            "llm", num_hidden_layers=6, layer_types=["full_attention"] * 6
        ),
        "an activation of no kind": _edit("llm", hidden_act="gulp"),
        "weights of whole numbers": _tensors("llm", _whole_numbers),
        "types of too few layers": _edit("llm", layer_types=["full_attention"]),
        "numbers of no kind": _edit("llm", dtype="float99"),
        "weights that are quantised": _edit("llm", quantization_config={"quant_method": "awq"}),
        "code that the model brings along": _edit(
            "llm", auto_map={"AutoConfig": "x.Y"}, model_type="mine"
        ),
        "weights as a pickle alone": _pickled,
        "weights of no bytes": _write("llm", "model.safetensors", b""),
        "weights cut in half (LLM)": _cut("llm", "model.safetensors"),
        "weights without their last byte": _cut("llm", "model.safetensors", 0.999999),
        "weights that are a Git LFS pointer": _write("llm", "model.safetensors", _POINTER),
        "weights that are a page of a web server": _write(
            "llm", "model.safetensors", b"<!DOCTYPE html><html>404</html>"
        ),
        "weights of NaN (LLM)": _tensors("llm", _nan),
        "an infinite weight": _tensors("llm", _infinite),
        "a missing weight": _tensors("llm", lambda t: t.pop(_first(t, "up_proj.weight"))),
        "a weight of another shape": _tensors("llm", _narrow),
        "another model's weights": lambda models: shutil.copy(
            models / "vision/model.safetensors", models / "llm/model.safetensors"
        ),
        "an index whose shard is missing": _sharded({"a": "model-00001-of-00002.safetensors"}),
        "an index without a map": _sharded(None),
        "an index that leads out": _sharded({"a": "../../weights.safetensors"}),
        "an index that is cut": _index(b'{"weight_map": {'),
        "LoRA targets that are not there": {
            "llm": {"lora": {"targets": ["q_proj", "query_key_value"]}}
        },
    },
    "tokenizer": {
        "a language model without tokenizer": _drop("llm", "tokenizer.json"),
        "a tokenizer that is cut": _cut("llm", "tokenizer.json"),
        "a tokenizer that is a Git LFS pointer": _write("llm", "tokenizer.json", _POINTER),
        "more tokens than embeddings": _edit("llm", vocab_size=1000),
        "a longest text of a word": _edit("llm", "tokenizer_config.json", model_max_length="long"),
        "a tokenizer that is a list": _write("llm", "tokenizer.json", b"[]"),
        "an end of text that is no token": _edit("llm", "tokenizer_config.json", eos_token="<x>"),
        "tokenizer settings that are a list": _write("llm", "tokenizer_config.json", b"[]"),
        "no chat template": _drop("llm", _TEMPLATE),
        "a chat template that is no Jinja": _template("{% for %}"),
        "a chat template that refuses": _template("{{ raise_exception('no system turn') }}"),
        "a chat template that divides by zero": _template("{{ 1 / 0 }}"),
        "a chat template of unknown names": _template("{{ nobody.knows }}"),
        "a chat template that counts too far": _template(
            "{% for i in range(999999999) %}{{ i }}{% endfor %}"
        ),
        "a chat template that reaches for code": _template("{{ ''.__class__.__mro__ }}"),
        "a chat template without the message": _template("hello"),
        "a chat template that shows a message twice": _template(
            "{{ messages[0].content }} {{ messages[0].content }}"
        ),
    },
    "scorer": {
        "a config.json that is no UTF-8": _write("scorer", "config.json", b"\xff\xfe"),
        "a tower for a scorer": _edit("scorer", model_type="vit"),
        "a vision_config that is a text": _edit("scorer", vision_config="x"),
        "no weights": _drop("scorer", "model.safetensors"),
        "weights cut in half (scorer)": _cut("scorer", "model.safetensors"),
        "a scorer without tokenizer": _drop("scorer", "tokenizer.json"),
        "a scorer whose tokenizer is cut": _cut("scorer", "tokenizer.json"),
    },
    "bertscore": {
        "a BERTScore model that is not here": {"bertscore": {"model": "./nowhere", "layer": 1}},
        "a BERTScore model whose weights are a Git LFS pointer": lambda models: _write(
            "scorer", "model.safetensors", _POINTER
        )(models),
        "a layer that the BERTScore model has not": {"bertscore": {"model": "llm", "layer": 9}},
    },
    "projectors": {
        "an option that does not fit": {
            "projectors": {"query_abstractor": {"options": {"heads": 5}}}
        },
        "an option that its projector has not": {
            "projectors": {"linear": {"options": {"depth": 2}}}
        },
        "an option of another type": {
            "projectors": {"query_abstractor": {"options": {"queries": "many"}}}
        },
        "a projector of a million layers": {
            "projectors": {"query_perceiver": {"options": {"depth": 10**6}}}
        },
    },
}


def models_config(folder: Path, changes: Mapping[str, Any]) -> Any:
    """The config of a study between the models of ``folder``, which keys of ``changes`` change."""
    llm = {"quantization": "none", "lora": {"r": 2, "targets": ["q_proj"]}}
    raw: dict[str, Any] = {
        "output_dir": str(folder / "results"),
        "demo": {"train": 20, "selection": 20, "report": 20},
        "projectors": {"linear": {}},
        "runtime": {"device": "cpu"},
        "vision": {"model": "vision", "frames": 2},
        "llm": {"model": "llm", **llm},
        "scorer": {"model": "scorer", "frames": 2},
    }
    for key, value in changes.items():
        raw[key] = value if key == "projectors" else raw.get(key, {}) | value
    for part in ("vision", "llm", "scorer", "bertscore"):
        if part in raw and not raw[part]["model"].startswith("."):
            raw[part]["model"] = str(folder / raw[part]["model"])
    return parse(raw)


def _model(check: str, spoiled: Callable[[Path], object] | Mapping[str, Any]) -> _Told:
    def told(folder: Path) -> str:
        for part in ("vision", "llm", "scorer"):
            shutil.copytree(_DEMO / part, folder / part)
        bert = {"bertscore": {"model": "scorer", "layer": 1}} if check == "bertscore" else {}
        changes = spoiled if isinstance(spoiled, Mapping) else bert
        if not isinstance(spoiled, Mapping):
            spoiled(folder)
        findings = preflight(models_config(folder, changes), [check])
        return "; ".join(f"{f.what}: {f.sentence}" for f in findings if f.level == "failed")

    return told


#: Every case, in the order of the page.
CASES: list[BadInput] = [
    *(BadInput("Configs", what, _config(content)) for what, content in _CONFIGS.items()),
    *(BadInput("Labels", what, _label(content)) for what, content in _LABELS.items()),
    *(BadInput("Files of a dataset", what, _files(spoil)) for what, spoil in _FILES.items()),
    *(BadInput("Tables of clips", what, _table(*given)) for what, given in _TABLES.items()),
    *(BadInput("Clips", what, _clip(what)) for what in _CLIPS),
    *(BadInput("Splits", what, told) for what, told in _SPLITS.items()),
    *(
        BadInput("Models", what, _model(check, spoiled))
        for check, cases in _MODELS.items()
        for what, spoiled in cases.items()
    ),
]


def sentence_of(case: BadInput, folder: Path) -> str:
    """What a user reads of a case that is made in an empty ``folder``, which is called ``…``."""
    return case.told(folder).replace(str(folder), "…")


def row(case: BadInput, told: str) -> str:
    """A line of the page's table."""
    # As code, but for what would end it or the cell.
    shown = told.replace("`", "'").replace("|", "\\|")
    return f"| {case.what} | `{shown}` |"


def table(rows: Mapping[str, list[str]]) -> str:
    """Markdown: a table for each kind, of its rows."""
    head = "| what | what is read |\n| --- | --- |\n"
    return "\n".join(f"### {kind}\n\n{head}" + "\n".join(own) + "\n" for kind, own in rows.items())


def main(page: Path) -> None:
    """Make every bad input, read what is said, and write the tables into the page."""
    rows: dict[str, list[str]] = {}
    for case in CASES:
        with TemporaryDirectory() as folder:
            rows.setdefault(case.kind, []).append(row(case, sentence_of(case, Path(folder))))
    write_tables(page, {"bad inputs": table(rows)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
