"""MSVD: ``AllVideoDescriptions.txt`` and a list of clips a split, ``<folder>.txt``."""

from __future__ import annotations

import re
from collections import defaultdict

from siglip_study.data.files import split_file
from siglip_study.data.labels import LabelKeys, Scan, Source, read_text
from siglip_study.data.rows import LabelRow, clips_of

#: ``-4wsuPCjDBc_5_15`` is cut from the YouTube video ``-4wsuPCjDBc``.
_NAME = re.compile(r"(?P<source>.+)_\d+_\d+")
KEYS = LabelKeys(id="name", caption="captions", group="source")
UNREAD = frozenset(["label_folder", "ignore_keys"])


def read(source: Source) -> Scan:
    """Some forty captions a clip; files are found by their names, in any subfolder.

    Raises:
        StudyError: one of the two files is missing or leads outside the dataset's folder.
    """
    name, listed = split_file(source, f"{source.folder}.txt")
    _, described = split_file(source, "AllVideoDescriptions.txt")
    captions: dict[str, list[str]] = defaultdict(list)
    for line in read_text(described).splitlines():
        clip, _, text = line.partition(" ")
        if not line.startswith("#"):
            captions[clip].append(text)
    rows = []
    for number, line in enumerate(read_text(listed).splitlines(), start=1):
        if clip := line.strip().removesuffix(".avi"):
            match = _NAME.fullmatch(clip)
            values = {"name": clip, "captions": captions[clip]}
            rows.append(
                LabelRow(f"{name}:{number}", {**values, "source": match and match["source"]})
            )
    return clips_of(rows, source, name)
