"""ActivityNet Captions: one ``<folder>.json`` a split; every segment of a video is a clip."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from siglip_study.data.files import split_file
from siglip_study.data.labels import LabelError, LabelKeys, Scan, Source, parse_label
from siglip_study.data.rows import LabelRow, clips_of

KEYS = LabelKeys(path="video", group="video")
UNREAD = frozenset(["label_folder", "ignore_keys"])


def read(source: Source) -> Scan:
    """Segments of one video are one group; their ids are the video's with ``_0``, ``_1`` and so on.

    Files are found by their stems, such as ``v_QOlSCBRmfWY``, in any subfolder.

    Raises:
        StudyError: the file is missing or leads outside the dataset's folder.
    """
    name, content = split_file(source, f"{source.folder}.json")
    rows: list[LabelRow] = []
    for video, entry in parse_label(content).items():
        times, texts = _parts(entry, video, name)
        for number, (time, text) in enumerate(zip_longest(times, texts)):
            start, end = time if isinstance(time, list) and len(time) == 2 else ("none", "none")
            values = {"id": f"{video}_{number}", "video": video, "caption": text}
            rows.append(LabelRow(f"{name}:{video}", {**values, "start_s": start, "end_s": end}))
    return clips_of(rows, source, name)


def _parts(entry: Any, video: str, name: str) -> tuple[list[Any], list[Any]]:
    if isinstance(entry, dict):
        times, texts = entry.get("timestamps"), entry.get("sentences")
        if isinstance(times, list) and isinstance(texts, list):
            return times, texts
    raise LabelError(f"{name}: '{video}' has no lists 'timestamps' and 'sentences'")
