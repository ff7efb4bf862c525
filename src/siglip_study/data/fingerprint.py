"""Has the dataset changed? Told from names, sizes and times, without opening a file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from siglip_study.base.io import write_json
from siglip_study.data.files import walk

_LISTING = "files.json"


def _files(root: Path, follow_links: bool = False) -> list[tuple[str, os.stat_result]]:
    found = []
    # A file being written (see io.py) is hidden, and not part of the dataset yet.
    for path, not_entered in walk(root, follow_links):
        relative = path.relative_to(root).as_posix()
        if relative != _LISTING and not not_entered:
            # Through links to files: datasets are often farms of them.
            found.append((relative, path.stat(follow_symlinks=path.exists())))
    return sorted(found, key=lambda file: file[0])


def write_listing(root: Path) -> None:
    """Record the files a generated dataset consists of, so that later changes can be told."""
    write_json(root / _LISTING, {"files": {n: s.st_size for n, s in _files(root)}}, "files/1")


def dataset_fingerprint(root: Path, follow_links: bool = False) -> str:
    """A hash that changes when a file is added, removed or replaced, also behind followed links.

    A generated dataset that is as its listing says, or is not made yet, is ``pristine``: making it
    is no change, adding a clip to it is.
    """
    if not root.is_dir():
        return "pristine"
    found = _files(root, follow_links)
    if (root / _LISTING).is_file():
        made = json.loads((root / _LISTING).read_text(encoding="utf-8"))["files"]
        if made == {name: stat.st_size for name, stat in found}:
            return "pristine"
    digest = hashlib.sha256()
    for name, stat in found:
        digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()[:16]
