"""AI-Hub's layout: ``<folder>/videos/**/*.mp4`` with ``<folder>/labels/**/*.json``."""

from __future__ import annotations

from pathlib import Path

from siglip_study.data.layouts.base import (
    LabelError,
    LabelKeys,
    ListedClip,
    Scan,
    captions_of,
    files_by_id,
    lookup,
    pairs,
    parse_label,
    text_of,
)


def read(root: Path, folder: str, keys: LabelKeys) -> Scan:
    """A clip and its label share the file's stem, which is the id.

    The caption is a text or a list of texts; without a group the clip is a group of its own;
    without a category it is null.

    Raises:
        StudyError: one of the two folders is missing or leads outside the dataset's folder.
    """
    scan = Scan()
    videos = files_by_id(root, f"{folder}/videos", ".mp4", scan)
    labels = files_by_id(root, f"{folder}/labels", ".json", scan)
    for clip, video, label in pairs(videos, labels, scan):
        try:
            found = parse_label((root / label).read_bytes())
            captions = captions_of(lookup(found, keys.caption), keys.caption)
            group, category = text_of(found, keys.group), text_of(found, keys.category)
            scan.clips.append(ListedClip(clip, video, captions, group or clip, category))
        except LabelError as error:
            scan.reject(clip, label, str(error))
    return scan
