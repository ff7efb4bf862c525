"""``<folder>/**`` with a video beside its text: ``a.mp4`` with ``a.txt``, ``a.json`` or both."""

from __future__ import annotations

from typing import Any

from siglip_study.data.files import VIDEO_SUFFIXES, files_by_id, label_file, pairs
from siglip_study.data.labels import (
    LabelError,
    ListedClip,
    Scan,
    Source,
    captions_of,
    lookup,
    optional_text,
    parse_label,
    read_text,
    segment_of,
)

UNREAD = frozenset(["id_key", "path_key", "ignore_keys", "video_folder", "label_folder"])


def read(source: Source) -> Scan:
    """A clip and its labels share the file's stem, which is the id.

    Each line of a text is a caption. Without a text the caption stands in the JSON, whose group and
    category count either way; without a group the clip is a group of its own.

    Raises:
        StudyError: the folder is missing or leads outside the dataset's folder.
    """
    scan, keys = Scan(), source.keys
    videos = files_by_id(source, source.folder, VIDEO_SUFFIXES, scan)
    texts = files_by_id(source, source.folder, [".txt"], Scan())
    facts = files_by_id(source, source.folder, [".json"], Scan())
    # Where a clip has both, the JSON only adds to the text.
    for clip, video, label in pairs(videos, {**facts, **texts}, scan):
        try:
            found: dict[str, Any] = {}
            if len(facts.get(clip, [])) == 1:
                found = parse_label(label_file(source, facts[clip][0]))
            if clip in texts:
                lines = read_text(label_file(source, label)).splitlines()
                captions = captions_of(lines, "text")
            else:
                captions = captions_of(lookup(found, keys.caption), keys.caption, found)
            group = optional_text(found, keys.group, scan)
            category = optional_text(found, keys.category, scan)
            segment = segment_of(found, keys)
            scan.clips.append(ListedClip(clip, video, captions, group or clip, category, *segment))
        except LabelError as error:
            scan.reject(clip, label, str(error))
    return scan
