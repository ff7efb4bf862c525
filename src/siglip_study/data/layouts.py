"""Readers of dataset layouts: a folder → the clips it offers and the ones that cannot be used.

A reader looks at names and labels only; no video is opened here. Adding a layout is one function
with the signature of :data:`Reader` and one line in ``_LAYOUTS``.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError


@dataclass(frozen=True)
class LabelKeys:
    """Dotted keys into a label file, e.g. ``annotation.description_kr``."""

    caption: str = "annotation.description_kr"
    group: str = "meta.source"
    category: str = "meta.category"


@dataclass(frozen=True)
class Entry:
    """A clip with its label. ``path`` is relative to the dataset's root, with forward slashes."""

    id: str
    path: str
    captions: tuple[str, ...]
    group: str
    category: str | None


@dataclass(frozen=True)
class Rejection:
    """A clip or label that cannot be used; ``reason`` is ``kind: detail``."""

    id: str
    path: str
    reason: str


@dataclass
class Scan:
    """What a reader found in one split."""

    entries: list[Entry] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


Reader = Callable[[Path, str, LabelKeys], Scan]


class LabelError(Exception):
    """A label cannot be used; the message is the reason."""


def get_layout(name: str) -> Reader:
    """The reader of exactly this name.

    Raises:
        StudyError: there is none.
    """
    if name not in _LAYOUTS:
        raise StudyError(f"data.layout is '{name}'; expected one of {', '.join(_LAYOUTS)}.")
    return _LAYOUTS[name]


def read_aihub(root: Path, folder: str, keys: LabelKeys) -> Scan:
    """AI-Hub's layout: ``<folder>/videos/**/*.mp4`` with ``<folder>/labels/**/*.json``.

    A clip and its label share the file's stem, which is the id after NFC normalisation (macOS
    stores Korean names decomposed). The caption is a text or a list of texts; without a group the
    clip is a group of its own; without a category it is null.

    Raises:
        StudyError: one of the two folders is missing or leads outside the dataset's folder.
    """
    scan = Scan()
    videos = _files_by_id(root, f"{folder}/videos", ".mp4", scan)
    labels = _files_by_id(root, f"{folder}/labels", ".json", scan)
    for name in sorted(videos.keys() | labels.keys()):
        clips, notes = videos.get(name, []), labels.get(name, [])
        if len(clips) > 1 or len(notes) > 1:
            twice = clips if len(clips) > 1 else notes
            scan.rejected += [
                Rejection(name, p, f"duplicate id: also {', '.join(q for q in twice if q != p)}")
                for p in twice
            ]
        elif not clips:
            scan.rejected.append(Rejection(name, notes[0], "label without clip: no such video"))
        elif not notes:
            scan.rejected.append(Rejection(name, clips[0], "clip without label: no such label"))
        else:
            try:
                label = _load_json((root / notes[0]).read_bytes())
                scan.entries.append(_entry(name, clips[0], label, keys))
            except LabelError as error:
                scan.rejected.append(Rejection(name, notes[0], str(error)))
    return scan


def read_jsonl(root: Path, folder: str, keys: LabelKeys) -> Scan:
    """One ``<folder>.jsonl``, a clip a line: id, path, caption or captions, group, category.

    Its keys are fixed, so ``keys`` is not looked at. ``path`` is relative to the dataset's root.

    Raises:
        StudyError: the file is missing or leads outside the dataset's folder.
    """
    del keys
    name = f"{folder}.jsonl"
    if not (root / name).is_file() or not _is_inside(root, root / name):
        raise StudyError(f"{root / name}: no such file in the dataset's folder; expected a split.")
    scan = Scan()
    found: dict[str, list[Entry]] = defaultdict(list)
    for number, line in enumerate((root / name).read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        where = Rejection(f"{name}:{number}", name, "")
        try:
            record = _load_json(line)
            where = Rejection(_text(record, "id") or where.id, _text(record, "path") or name, "")
            entry = _entry_of_line(root, record)
            found[entry.id].append(entry)
        except LabelError as error:
            scan.rejected.append(Rejection(where.id, where.path, str(error)))
    for same in found.values():
        if len(same) == 1:
            scan.entries += same
        else:
            reason = f"duplicate id: {len(same)} lines of {name}"
            scan.rejected += [Rejection(e.id, e.path, reason) for e in same]
    return scan


_LAYOUTS: dict[str, Reader] = {"aihub": read_aihub, "jsonl": read_jsonl}


def _files_by_id(root: Path, folder: str, suffix: str, scan: Scan) -> dict[str, list[str]]:
    """Paths of files by id; links that are not followed and odd names go to ``scan.rejected``."""
    base = root / folder
    if not base.is_dir():
        raise StudyError(f"{base}: no such folder; expected the files of a split.")
    if not _is_inside(root, base):
        raise StudyError(f"{base}: a link that leaves the dataset's folder {root}; expected none.")
    found: dict[str, list[str]] = defaultdict(list)
    for path, is_folder in _walk(base):
        relative = path.relative_to(root).as_posix()
        name = unicodedata.normalize("NFC", path.stem)
        if not _is_utf8(relative):
            shown = os.fsencode(relative).decode("utf-8", "backslashreplace")
            scan.rejected.append(Rejection(Path(shown).stem, shown, "unreadable: odd file name"))
        elif is_folder:
            reason = "outside: a linked folder is not followed"
            scan.rejected.append(Rejection(name, relative, reason))
        elif path.suffix.lower() != suffix:
            continue
        elif not _is_inside(root, path):
            reason = "outside: the file leads outside the dataset's folder"
            scan.rejected.append(Rejection(name, relative, reason))
        else:
            found[name].append(relative)
    return {name: sorted(paths) for name, paths in found.items()}


def _walk(base: Path) -> Iterator[tuple[Path, bool]]:
    """Files below ``base`` and, marked True, folders that are links; hidden files apart."""
    for folder, folders, files in os.walk(base):
        yield from ((Path(folder, f), True) for f in folders if Path(folder, f).is_symlink())
        yield from ((Path(folder, f), False) for f in files if not f.startswith("."))


def _entry(name: str, path: str, label: dict[str, Any], keys: LabelKeys) -> Entry:
    captions = _captions(_lookup(label, keys.caption), keys.caption)
    group = _text(label, keys.group) or name
    return Entry(name, path, captions, group, _text(label, keys.category))


def _entry_of_line(root: Path, record: dict[str, Any]) -> Entry:
    name, path = _text(record, "id"), _text(record, "path")
    if name is None or path is None:
        raise LabelError("broken label: 'id' or 'path' is missing")
    full = root / path
    if not _is_inside(root, full):
        raise LabelError("outside: the path leads outside the dataset's folder")
    if not full.is_file():
        raise LabelError("label without clip: no such video")
    key = "captions" if "captions" in record else "caption"
    captions = _captions(record.get(key), key)
    relative = Path(os.path.normpath(path)).as_posix()
    return Entry(
        name, relative, captions, _text(record, "group") or name, _text(record, "category")
    )


def _load_json(data: bytes) -> dict[str, Any]:
    try:
        label = json.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise LabelError(f"broken label: not JSON ({error})") from error
    if not isinstance(label, dict):
        raise LabelError(f"broken label: the JSON is a {type(label).__name__}, not an object")
    return label


def _lookup(label: dict[str, Any], key: str) -> Any:
    value: Any = label
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def _captions(value: Any, key: str) -> tuple[str, ...]:
    """One text or several, stripped, NFC; the empty ones are dropped, but not all of them."""
    if value is None:
        raise LabelError(f"no caption: '{key}' is absent")
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise LabelError(f"broken label: '{key}' is neither a text nor a list of texts")
    if not all(_is_utf8(text) for text in texts):
        raise LabelError(f"broken label: '{key}' holds half a character (a lone surrogate)")
    kept = tuple(unicodedata.normalize("NFC", text.strip()) for text in texts if text.strip())
    if not kept:
        raise LabelError(f"no caption: '{key}' is empty")
    return kept


def _text(label: dict[str, Any], key: str) -> str | None:
    """A text or number under a dotted key as NFC text; None where it is absent or empty."""
    value = _lookup(label, key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise LabelError(f"broken label: '{key}' is a {type(value).__name__}, not a text")
    text = unicodedata.normalize("NFC", str(value).strip())
    if "\0" in text or not _is_utf8(text):
        raise LabelError(f"broken label: '{key}' holds a character that no name can have")
    return text or None


def _is_inside(root: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
