"""VATEX: one ``<folder>.json`` a split, a list with ``videoID``, ``enCap`` and ``chCap``."""

from __future__ import annotations

import re

from siglip_study.data.files import split_file
from siglip_study.data.labels import LabelKeys, Scan, Source, parse_json
from siglip_study.data.rows import LabelRow, clips_of, entries

#: ``Ptf_2VRj-V0_000122_000132`` is cut from the YouTube video ``Ptf_2VRj-V0``.
_NAME = re.compile(r"(?P<source>.+)_\d{6}_\d{6}")
KEYS = LabelKeys(id="videoID", caption="enCap", group="source")
UNREAD = frozenset(["label_folder", "ignore_keys"])


def read(source: Source) -> Scan:
    """Ten captions a clip, Chinese ones with ``caption_key: chCap``; files are found by name.

    Raises:
        StudyError: the file is missing or leads outside the dataset's folder.
    """
    name, content = split_file(source, f"{source.folder}.json")
    rows = []
    for number, entry in enumerate(entries(parse_json(content), name)):
        match = _NAME.fullmatch(str(entry.get("videoID")))
        rows.append(LabelRow(f"{name}:{number}", {"source": match and match["source"], **entry}))
    return clips_of(rows, source, name)
