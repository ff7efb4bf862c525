"""What readers of dataset layouts share: their result, and looking into folders and labels.

A reader looks at names and labels only; no video is opened here. It is a function ``read(root,
folder, keys)``: the dataset's root, the split's folder (or file stem) in it, and keys into labels.
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

    caption: str
    group: str
    category: str


@dataclass(frozen=True)
class ListedClip:
    """A clip with its label. ``path`` is relative to the dataset's root, with forward slashes."""

    id: str
    path: str
    captions: tuple[str, ...]
    #: the source video: clips of one group never stand on two sides of a comparison
    group: str
    category: str | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Rejection:
    """A clip or label that cannot be used; ``reason`` is ``kind: detail``."""

    id: str
    path: str
    reason: str


@dataclass
class Scan:
    """What a reader found in one split."""

    clips: list[ListedClip] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    def reject(self, clip: str, path: str, reason: str) -> None:
        """Note a clip or label that cannot be used, with the reason as ``kind: detail``."""
        self.rejected.append(Rejection(clip, path, reason))


Reader = Callable[[Path, str, LabelKeys], Scan]


class LabelError(Exception):
    """A label cannot be used; the message is the reason."""


def split_file(root: Path, name: str) -> bytes:
    """Content of the one file of a split (a table of its clips, say).

    Raises:
        StudyError: the file is missing or leads outside the dataset's folder.
    """
    path = root / name
    if not path.is_file() or not is_inside(root, path):
        raise StudyError(f"{path}: no such file in the dataset's folder; expected a split.")
    return path.read_bytes()


def files_by_id(root: Path, folder: str, suffix: str, scan: Scan) -> dict[str, list[str]]:
    """Id → paths of the files below ``folder`` that end in ``suffix``; hidden files apart.

    The id is the file's stem after NFC normalisation (macOS stores Korean names decomposed). Links
    that are not followed and odd names go to ``scan.rejected``.

    Raises:
        StudyError: the folder is missing or leads outside the dataset's folder.
    """
    base = root / folder
    if not base.is_dir():
        raise StudyError(f"{base}: no such folder; expected the files of a split.")
    if not is_inside(root, base):
        raise StudyError(f"{base}: a link that leaves the dataset's folder {root}; expected none.")
    found: dict[str, list[str]] = defaultdict(list)
    for path, is_folder in _walk(base):
        relative = path.relative_to(root).as_posix()
        clip = unicodedata.normalize("NFC", path.stem)
        if not _is_utf8(relative):
            shown = os.fsencode(relative).decode("utf-8", "backslashreplace")
            scan.reject(Path(shown).stem, shown, "unreadable: odd file name")
        elif is_folder:
            scan.reject(clip, relative, "outside: a linked folder is not followed")
        elif path.suffix.lower() != suffix:
            continue
        elif not is_inside(root, path):
            scan.reject(clip, relative, "outside: the file leads outside the dataset's folder")
        else:
            found[clip].append(relative)
    return {clip: sorted(paths) for clip, paths in found.items()}


def pairs(
    videos: dict[str, list[str]], labels: dict[str, list[str]], scan: Scan
) -> Iterator[tuple[str, str, str]]:
    """(id, path of the video, path of the label) where there is one of each, in order of ids.

    The others go to ``scan.rejected``. Arguments are as :func:`files_by_id` gives them.
    """
    for clip in sorted(videos.keys() | labels.keys()):
        paths, notes = videos.get(clip, []), labels.get(clip, [])
        twice = next((files for files in (paths, notes) if len(files) > 1), None)
        if twice:
            for path in twice:
                others = ", ".join(other for other in twice if other != path)
                scan.reject(clip, path, f"duplicate id: also {others}")
        elif not paths:
            scan.reject(clip, notes[0], "label without clip: no such video")
        elif not notes:
            scan.reject(clip, paths[0], "clip without label: no such label")
        else:
            yield clip, paths[0], notes[0]


def _walk(base: Path) -> Iterator[tuple[Path, bool]]:
    """Files below ``base`` and, marked True, folders that are links; hidden files apart."""
    for folder, folders, files in os.walk(base):
        yield from ((Path(folder, f), True) for f in folders if Path(folder, f).is_symlink())
        yield from ((Path(folder, f), False) for f in files if not f.startswith("."))


def read_text(data: bytes) -> str:
    """The text of a label's file, with or without a byte order mark; LabelError: no UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"broken label: not UTF-8 ({error.reason})") from error


def parse_label(data: bytes) -> dict[str, Any]:
    """The JSON object of a label's file; LabelError: it is none."""
    try:
        label = json.loads(read_text(data))
    except (json.JSONDecodeError, RecursionError) as error:
        raise LabelError(f"broken label: not JSON ({error})") from error
    if not isinstance(label, dict):
        raise LabelError(f"broken label: the JSON is a {type(label).__name__}, not an object")
    return label


def lookup(label: dict[str, Any], key: str) -> Any:
    """What stands under a dotted key; None where nothing does."""
    value: Any = label
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def captions_of(value: Any, key: str) -> tuple[str, ...]:
    """One text or several, stripped, NFC; the empty ones are dropped.

    ``value`` stood under ``key``, which the LabelError names where that is no text.
    """
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


def text_of(label: dict[str, Any], key: str) -> str | None:
    """A text or number under a dotted key as NFC text; None where it is absent or empty.

    LabelError: something else stands there.
    """
    value = lookup(label, key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise LabelError(f"broken label: '{key}' is a {type(value).__name__}, not a text")
    text = unicodedata.normalize("NFC", str(value).strip())
    if "\0" in text or not _is_utf8(text):
        raise LabelError(f"broken label: '{key}' holds a character that no name can have")
    return text or None


def is_inside(root: Path, path: Path) -> bool:
    """Whether a path, all links followed, lies in the dataset's folder."""
    return path.resolve().is_relative_to(root.resolve())


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
