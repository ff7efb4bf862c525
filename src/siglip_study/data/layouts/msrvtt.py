"""MSR-VTT: ``*videodatainfo.json``; its splits are called "train", "validate" and "test"."""

from __future__ import annotations

from collections import defaultdict

from siglip_study.base.errors import StudyError
from siglip_study.data.files import files_by_id, label_file
from siglip_study.data.labels import LabelKeys, Scan, Source, parse_json
from siglip_study.data.rows import LabelRow, clips_of, entries

#: Clips were cut from YouTube videos: ``url``. They lie cut, so their times there are not read.
KEYS = LabelKeys(id="video_id", caption="captions", group="url")
UNREAD = frozenset(["ignore_keys"])


def read(source: Source) -> Scan:
    """Twenty captions a clip; files are found by their stems, such as ``video7``, in any subfolder.

    Raises:
        StudyError: no file of labels is there, or none has this split.
    """
    found = files_by_id(source, source.label_folder or ".", [".json"], Scan())
    names = [p for stem, paths in found.items() if "videodatainfo" in stem.lower() for p in paths]
    rows: dict[str, LabelRow] = {}
    captions: dict[str, list[str]] = defaultdict(list)
    splits: set[str] = set()
    for name in sorted(names):
        label = parse_json(label_file(source, name))
        for video in entries(label, name, "videos"):
            splits.add(str(video.get("split")))
            if video.get("split") == source.folder:
                clip = str(video.get("video_id"))
                rows[clip] = LabelRow(f"{name}:{clip}", video)
        for sentence in entries(label, name, "sentences"):
            captions[str(sentence.get("video_id"))].append(sentence.get("caption", ""))
    if not rows:
        held = f"hold {', '.join(sorted(splits))}" if names else "are absent"
        raise StudyError(
            f"{source.root}: no video of split '{source.folder}'; files *videodatainfo.json {held}."
        )
    whole = [
        LabelRow(r.where, {**r.values, "captions": captions[clip]}) for clip, r in rows.items()
    ]
    return clips_of(whole, source, ", ".join(sorted(names)))
