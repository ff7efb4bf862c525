"""Has the dataset changed? Told split by split, by what a reader takes of it, before a job runs.

Only the clips that a reader lists count, with their captions and the content of their files: a file
that is nobody's, a folder that moved, a copy with other times change nothing, and a clip that is
added to the report leaves what was trained as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json
from siglip_study.config.study import Config
from siglip_study.data import VERSION
from siglip_study.data.files import walk
from siglip_study.data.labels import Scan
from siglip_study.data.layouts import reader_code, scan_split
from siglip_study.study.paths import Paths

#: What a generated dataset consists of, in its own folder.
_MADE = "files.json"
#: Of a file, so many pieces of so many bytes are read, first and last among them.
_PIECES, _PIECE = 10, 2**16


@dataclass(frozen=True)
class DatasetDigests:
    """Hashes of a dataset: ``whole`` changes with anything a reader says of it, rejections too.

    ``splits`` has one for ``train``, ``selection`` and ``report``, which changes where the clips of
    that split may; both halves of a split that is halved have the same.
    """

    whole: str
    splits: Mapping[str, str]


def dataset_digests(config: Config) -> DatasetDigests:
    """What the study's dataset is, as jobs are planned.

    A generated dataset counts as made, before and after it is. Content is told from size and ten
    pieces of a file, and kept by file number, size and time, so that a second call opens nothing.

    Raises:
        StudyError: the layout is unknown.
    """
    data = config.data
    keys = data.model_dump(mode="json", exclude={"workers", "cross_fit", "root"})
    asked = [keys, config.sampled_frames, reader_code(data.layout), VERSION]
    found = _listed(config, _hash(keys))
    return DatasetDigests(
        _hash([asked, found["whole"]]),
        {
            split: _hash([asked, digest])
            for name, digest in found["splits"].items()
            for split in (("selection", "report") if name == "held_out" else (name,))
        },
    )


def write_listing(config: Config, root: Path) -> None:
    """Record what a generated dataset consists of, so that later changes can be told."""
    found = _read(config, root, {})
    write_json(root / _MADE, {"whole": found["whole"], "splits": found["splits"]}, "made/1")


def _listed(config: Config, keys: str) -> dict[str, Any]:
    """``whole`` and ``splits`` of what lies there, from the last call if nothing was touched."""
    root, splits = config.data_root, config.data.splits
    made = dict.fromkeys(splits, "made")
    if not root.is_dir():
        return {"whole": "made", "splits": made}
    seen = hashlib.sha256(keys.encode())
    for path, not_entered in walk(root, config.data.follow_links, skip=Path(config.output_dir)):
        if path.name != _MADE or path.parent != root:
            stat = path.stat(follow_symlinks=path.exists())
            seen.update(os.fsencode(f"{path.relative_to(root)}\0{not_entered}"))
            seen.update(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}\0".encode())
    kept = Paths(config.output_dir).data / "digests.json"
    known: dict[str, Any] = {}
    if kept.is_file():
        known = read_json(kept, "digests/1")
        if known["seen"] == seen.hexdigest():
            return known
    try:
        found = _read(config, root, known.get("files", {}))
    except StudyError:
        # The job that reads it says what is wrong; until it is mended, every change counts.
        other = seen.hexdigest()
        return {"whole": other, "splits": dict.fromkeys(splits, other)}
    if (root / _MADE).is_file():
        own = read_json(root / _MADE, "made/1", "files/1")
        found["whole"] = "made" if own.get("whole") == found["whole"] else found["whole"]
        found["splits"] = {
            split: "made" if own.get("splits", {}).get(split) == digest else digest
            for split, digest in found["splits"].items()
        }
    write_json(kept, {"seen": seen.hexdigest(), **found}, "digests/1")
    return found


def _read(config: Config, root: Path, files: Mapping[str, Any]) -> dict[str, Any]:
    """Digests of the dataset and its splits as the reader lists them, and of their files."""
    data = config.data
    scans: dict[str, Scan] = {
        split: scan_split(data, root, folder) for split, folder in data.splits.items()
    }
    digests: dict[str, list[Any]] = {}
    splits, owners = {}, dict[str, set[str]]()
    for split, scan in scans.items():
        clips = []
        for clip in scan.clips:
            path = root / clip.path
            stat = path.stat()
            about = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
            before = files.get(clip.path, [])
            content = before[3] if before[:3] == about else _content(path, stat.st_size)
            digests[clip.path] = [*about, content]
            clips.append([*astuple(clip), content])
            for shared in (f"id {clip.id}", f"group {clip.group}", f"file {content}"):
                owners.setdefault(shared, set()).add(split)
        splits[split] = _hash(sorted(clips, key=json.dumps))
    # What two splits share may be taken from one of them: each then counts with the other.
    entangled = set().union(*(names for names in owners.values() if len(names) > 1))
    together = _hash([splits[name] for name in sorted(entangled)])
    rejected = {
        split: sorted([r.id, r.path, r.reason] for r in scan.rejected)
        for split, scan in scans.items()
    }
    return {
        "whole": _hash([splits, rejected]),
        "splits": {name: together if name in entangled else own for name, own in splits.items()},
        "files": digests,
    }


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
