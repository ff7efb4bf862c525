"""Has the dataset changed? Told from names, sizes and times, without opening a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from siglip_study.base.io import write_json

_LISTING = "files.json"


def _files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            # A file being written (see io.py) is not part of the dataset yet.
            if relative != _LISTING and not name.startswith("."):
                # Through links to files: datasets are often farms of them.
                yield relative, path.stat(follow_symlinks=path.exists())


def write_listing(root: Path) -> None:
    """Record the files a generated dataset consists of, so that later changes can be told."""
    write_json(root / _LISTING, {"files": {n: s.st_size for n, s in _files(root)}}, "files/1")


def dataset_fingerprint(root: Path) -> str:
    """A hash that changes when a file is added, removed or replaced.

    A generated dataset that is as its listing says, or is not made yet, is ``pristine``: making it
    is no change, adding a clip to it is.
    """
    if not root.is_dir():
        return "pristine"
    found = list(_files(root))
    if (root / _LISTING).is_file():
        made = json.loads((root / _LISTING).read_text(encoding="utf-8"))["files"]
        if made == {name: stat.st_size for name, stat in found}:
            return "pristine"
    digest = hashlib.sha256()
    for name, stat in found:
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]
