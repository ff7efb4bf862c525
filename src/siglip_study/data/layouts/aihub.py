"""AI-Hub's layout: ``<folder>/videos/**`` with ``<folder>/labels/**/*.json``."""

from __future__ import annotations

from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.data.files import VIDEO_SUFFIXES, files_by_id, label_file, pairs
from siglip_study.data.labels import (
    LabelError,
    LabelKeys,
    ListedClip,
    Scan,
    Source,
    captions_of,
    dotted_keys,
    lookup,
    nearest_key,
    optional_text,
    parse_label,
    segment_of,
)

KEYS = LabelKeys(caption="annotation.description_kr", group="meta.source", category="meta.category")
UNREAD = frozenset(["id_key", "path_key", "ignore_keys"])


def read(source: Source) -> Scan:
    """A clip and its label share the file's stem, which is the id.

    The folders are called ``videos`` and ``labels`` if the config does not name them. The caption
    is a text or a list of texts; without a group the clip is a group of its own; without a category
    it is null.

    Raises:
        StudyError: one of the two folders is missing or leads outside the dataset's folder, or the
            key of group or category that the config names stands in no label.
    """
    scan, keys = Scan(), source.keys
    video_folder, label_folder = source.video_folder or "videos", source.label_folder or "labels"
    videos = files_by_id(source, f"{source.folder}/{video_folder}", VIDEO_SUFFIXES, scan)
    labels = files_by_id(source, f"{source.folder}/{label_folder}", [".json"], scan)
    found: dict[str, Any] = {}
    for clip, video, label in pairs(videos, labels, scan):
        try:
            found[clip] = parse_label(label_file(source, label))
            captions = captions_of(lookup(found[clip], keys.caption), keys.caption, found[clip])
            group = optional_text(found[clip], keys.group, scan)
            category = optional_text(found[clip], keys.category, scan)
            segment = segment_of(found[clip], keys)
            scan.clips.append(ListedClip(clip, video, captions, group or clip, category, *segment))
        except LabelError as error:
            scan.reject(clip, label, str(error))
    _check_given(source, found)
    return scan


def _check_given(source: Source, labels: dict[str, Any]) -> None:
    """A misspelt key would otherwise be an absent group or category, without a word."""
    for fact in sorted(source.given & {"group", "category"}):
        key = getattr(source.keys, fact)
        if labels and all(lookup(label, key) is None for label in labels.values()):
            near = nearest_key(key, dotted_keys(next(iter(labels.values()))))
            hint = f"did you mean '{near}'?" if near else "expected it in some label."
            raise StudyError(
                f"data.{fact}_key is '{key}', which stands in none of {len(labels)} labels of "
                f"split '{source.folder}'; {hint}"
            )
