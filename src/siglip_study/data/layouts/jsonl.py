"""One ``<folder>.jsonl`` a split, a clip a line: id, path, caption or captions, group, category."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from siglip_study.data.layouts.base import (
    LabelError,
    LabelKeys,
    ListedClip,
    Scan,
    captions_of,
    is_inside,
    parse_label,
    split_file,
    text_of,
)


def read(root: Path, folder: str, keys: LabelKeys) -> Scan:
    """Keys are fixed, so ``keys`` is not looked at; ``path`` is relative to the dataset's root.

    Raises:
        StudyError: the file is missing or leads outside the dataset's folder.
    """
    del keys
    name = f"{folder}.jsonl"
    scan = Scan()
    found: dict[str, list[ListedClip]] = defaultdict(list)
    for number, line in enumerate(split_file(root, name).splitlines(), start=1):
        if not line.strip():
            continue
        clip, path = f"{name}:{number}", name
        try:
            record = parse_label(line)
            clip, path = text_of(record, "id") or clip, text_of(record, "path") or path
            listed = _listed(root, record)
            found[listed.id].append(listed)
        except LabelError as error:
            scan.reject(clip, path, str(error))
    for same in found.values():
        if len(same) == 1:
            scan.clips += same
        else:
            for twice in same:
                scan.reject(twice.id, twice.path, f"duplicate id: {len(same)} lines of {name}")
    return scan


def _listed(root: Path, record: dict[str, Any]) -> ListedClip:
    clip, path = text_of(record, "id"), text_of(record, "path")
    if clip is None or path is None:
        raise LabelError("broken label: 'id' or 'path' is missing")
    if not is_inside(root, root / path):
        raise LabelError("outside: the path leads outside the dataset's folder")
    if not (root / path).is_file():
        raise LabelError("label without clip: no such video")
    key = "captions" if "captions" in record else "caption"
    captions = captions_of(record.get(key), key)
    relative = Path(os.path.normpath(path)).as_posix()
    group, category = text_of(record, "group"), text_of(record, "category")
    return ListedClip(clip, relative, captions, group or clip, category)
