"""Has a split of the dataset changed? Told by what a reader takes of it, before a job runs.

Only what a reader lists counts, captions and the content of files: a file that is nobody's, a
folder that moved, a copy with other times change nothing, and a clip more in one split leaves the
others as they are unless they have to do with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_result, sampled_digest, write_digest, write_json
from siglip_study.config.study import Config
from siglip_study.data.files import walk
from siglip_study.data.layouts import reader_code
from siglip_study.data.listing import list_dataset
from siglip_study.study.paths import Paths

#: What a generated dataset consists of, in its own folder.
_MADE = "files.json"


@dataclass(frozen=True)
class _Made:
    """What a generated dataset consists of."""

    #: hash of each split as its reader lists it
    splits: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Known(_Made):
    """What the last call has seen."""

    #: size, time and file number of each file, and hash of its content
    files: dict[str, list[int | str]] = field(default_factory=dict)
    #: hash of what lay there, by name
    seen: str = ""


def split_digests(config: Config) -> dict[str, str]:
    """Split in ``data.splits`` → a hash of what the job that checks its clips reads, and how.

    That is its clips, captions and rejected labels, and clips of other splits that bear on them. A
    split of a generated dataset counts as made, before and after it is. Content is told from size
    and ten pieces of a file, and kept by file number, size and time, so that a second call opens
    nothing.

    Raises:
        StudyError: the layout is unknown.
    """
    data = config.data
    keys = data.model_dump(mode="json", exclude={"workers", "cross_fit", "root"})
    asked = [keys, config.sampled_frames, reader_code(data.layout)]
    return {split: _hash([asked, own]) for split, own in _listed(config, _hash(keys)).items()}


def write_listing(config: Config, root: Path) -> None:
    """Record what a generated dataset consists of, so that later changes can be told."""
    write_json(root / _MADE, asdict(_Made(_read(config, root, {}).splits)), "made/2")


def _listed(config: Config, keys: str) -> dict[str, str]:
    """What lies there of each split, from the last call if nothing was touched."""
    root, splits = config.data_root, config.data.splits
    unfinished = config.data.root is None and not (root / _MADE).is_file()
    if unfinished or not root.is_dir():
        return dict.fromkeys(splits, "made")
    seen = hashlib.sha256(keys.encode())
    above = os.path.join(root, "")  # noqa: PTH118 (as the walk writes it: a path drops "./")
    for entry, not_entered in walk(root, config.data.follow_links, skip=Path(config.output_dir)):
        if entry.path != above + _MADE:
            try:
                stat = os.stat(entry.path)  # noqa: PTH116 (a path more would cost more)
            except OSError:  # a link to nothing
                stat = os.lstat(entry.path)
            seen.update(os.fsencode(f"{entry.path[len(above) :]}\0{not_entered}"))
            seen.update(f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}\0".encode())
    kept = Paths(config.output_dir).data / "digests.json"
    known = _Known()
    with suppress(StudyError):  # not there yet, or damaged: files are opened again
        known = read_result(kept, _Known, "digests/2")
    if known.seen != seen.hexdigest() or known.splits.keys() != dict.fromkeys(splits).keys():
        try:
            known = _read(config, root, known.files, seen.hexdigest())
        except StudyError:
            # The job that reads it says what is wrong; until it is mended, every change counts.
            return dict.fromkeys(splits, seen.hexdigest())
        write_json(kept, asdict(known), "digests/2")
        write_digest(kept)
    made: dict[str, str] = {}
    if (root / _MADE).is_file():
        made = read_result(root / _MADE, _Made, "made/2", "made/1", "files/1").splits
    return {split: "made" if made.get(split) == own else own for split, own in known.splits.items()}


def _read(
    config: Config, root: Path, files: Mapping[str, list[int | str]], seen: str = ""
) -> _Known:
    digests: dict[str, list[int | str]] = {}

    def content(path: str) -> str:
        if path not in digests:
            file = root / path
            stat = file.stat() if file.is_file() else None
            about = [stat.st_size, stat.st_mtime_ns, stat.st_ino] if stat else []
            *before, known = files.get(path) or [""]
            digests[path] = [*about, known if known and before == about else sampled_digest(file)]
        return str(digests[path][-1])

    splits = {}
    for split, own in list_dataset(config.data, root, content).items():
        clips = [[*astuple(clip), content(clip.path)] for clip in own.clips]
        related = [[home, *astuple(clip), content(clip.path)] for home, clip in own.related]
        rejected = [[r.id, r.path, r.reason] for r in own.rejected]
        left_out = [[*about, n] for about, n in own.left_out.items()]
        splits[split] = _hash([clips, related, sorted(rejected), sorted(left_out)])
    return _Known(splits, digests, seen)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
