"""Has the dataset changed? Told by what a reader takes of it, before a job runs.

Only what a reader lists counts, captions and the content of files: a file that is nobody's, a
folder that moved, a copy with other times change nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json
from siglip_study.config.study import Config
from siglip_study.data.files import walk
from siglip_study.data.layouts import reader_code, scan_split
from siglip_study.study.paths import Paths

#: What a generated dataset consists of, in its own folder.
_MADE = "files.json"
#: Of a file, so many pieces of so many bytes are read, first and last among them.
_PIECES, _PIECE = 10, 2**16


def dataset_digest(config: Config) -> str:
    """A hash of the study's clips, captions and rejected labels, and of how clips are checked.

    A generated dataset counts as made, before and after it is. Content is told from size and ten
    pieces of a file, and kept by file number, size and time, so that a second call opens nothing.

    Raises:
        StudyError: the layout is unknown.
    """
    data = config.data
    keys = data.model_dump(mode="json", exclude={"workers", "cross_fit", "root"})
    listed = _listed(config, _hash(keys))
    return _hash([keys, config.sampled_frames, reader_code(data.layout), listed])


def write_listing(config: Config, root: Path) -> None:
    """Record what a generated dataset consists of, so that later changes can be told."""
    write_json(root / _MADE, {"listed": _read(config, root, {})["listed"]}, "made/1")


def _listed(config: Config, keys: str) -> str:
    """What lies there, from the last call if nothing was touched."""
    root = config.data_root
    if not root.is_dir():
        return "made"
    seen = hashlib.sha256(keys.encode())
    for path, not_entered in walk(root, config.data.follow_links, skip=Path(config.output_dir)):
        if path != root / _MADE:
            stat = path.stat(follow_symlinks=path.exists())
            seen.update(os.fsencode(f"{path.relative_to(root)}\0{not_entered}"))
            seen.update(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}\0".encode())
    kept = Paths(config.output_dir).data / "digests.json"
    known: dict[str, Any] = read_json(kept, "digests/1") if kept.is_file() else {}
    if known.get("seen") != seen.hexdigest():
        try:
            known = {"seen": seen.hexdigest(), **_read(config, root, known.get("files", {}))}
        except StudyError:
            # The job that reads it says what is wrong; until it is mended, every change counts.
            return seen.hexdigest()
        write_json(kept, known, "digests/1")
    if (root / _MADE).is_file():
        made = read_json(root / _MADE, "made/1", "files/1")
        if made.get("listed") == known["listed"]:
            return "made"
    return str(known["listed"])


def _read(config: Config, root: Path, files: Mapping[str, Any]) -> dict[str, Any]:
    """Hash of the dataset as its reader lists it; size, time, number and hash of each file."""
    data = config.data
    listed: dict[str, Any] = {}
    digests: dict[str, list[Any]] = {}
    for split, folder in data.splits.items():
        scan, clips = scan_split(data, root, folder), []
        for clip in scan.clips:
            path = root / clip.path
            stat = path.stat()
            about = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
            before = files.get(clip.path, [])
            content = before[3] if before[:3] == about else _content(path, stat.st_size)
            digests[clip.path] = [*about, content]
            clips.append([*astuple(clip), content])
        rejected = sorted([r.id, r.path, r.reason] for r in scan.rejected)
        listed[split] = [sorted(clips, key=json.dumps), rejected]
    return {"listed": _hash(listed), "files": digests}


def _content(path: Path, size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place in range(_PIECES):
            file.seek(max(0, (size - _PIECE) * place // (_PIECES - 1)))
            digest.update(file.read(_PIECE))
            if size <= _PIECE:
                break
    return digest.hexdigest()[:32]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
