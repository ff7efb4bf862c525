"""COCO captions: ``annotations/captions_<folder>.json`` with images in ``<folder>/``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from siglip_study.data.files import IMAGE_SUFFIXES, split_file
from siglip_study.data.labels import LabelKeys, Scan, Source, parse_json
from siglip_study.data.rows import LabelRow, clips_of, entries

KEYS = LabelKeys(path="file_name", caption="captions")
UNREAD = frozenset(["ignore_keys"])


def read(source: Source) -> Scan:
    """Five captions an image; an image is a clip of one frame, and a group of its own.

    Raises:
        StudyError: the file is missing or leads outside the dataset's folder.
    """
    folder = source.label_folder or "annotations"
    name, content = split_file(source, f"{folder}/captions_{source.folder}.json")
    label = parse_json(content)
    captions: dict[str, list[str]] = defaultdict(list)
    for note in entries(label, name, "annotations"):
        captions[str(note.get("image_id"))].append(note.get("caption", ""))
    rows = [
        LabelRow(f"{name}:{number}", {**image, "captions": captions[str(image.get("id"))]})
        for number, image in enumerate(entries(label, name, "images"))
    ]
    there = replace(source, video_folder=source.video_folder or source.folder)
    return clips_of(rows, there, name, IMAGE_SUFFIXES)
