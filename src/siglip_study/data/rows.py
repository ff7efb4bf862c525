"""Rows of a table → clips: which columns are known, what a row needs, rows of one clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.data.files import VIDEO_SUFFIXES, FileFinder
from siglip_study.data.labels import (
    LabelError,
    LabelKeys,
    ListedClip,
    Scan,
    Source,
    captions_of,
    lookup,
    nearest_key,
    optional_text,
    segment_of,
    text_of,
)

#: Column with a list of captions, beside the one that holds a single caption.
CAPTIONS = "captions"
_CONFIG_KEY = {field.name: f"data.{field.name}_key" for field in fields(LabelKeys)}


@dataclass(frozen=True)
class LabelRow:
    """A line of a table: where it stands, for messages, and its values by column."""

    where: str
    values: Mapping[str, Any]


def clips_of(
    rows: Iterable[LabelRow], source: Source, name: str, suffixes: Collection[str] = VIDEO_SUFFIXES
) -> Scan:
    """The clips of a table, a row each, or several rows with a caption each.

    * A row without a path is the file that its id names; one without an id is named by its path.
    * Rows of one id and one file are one clip with several references; where their segments
      differ, each segment is a clip, ``<id>@<start>-<end>``.
    * Clips that are segments of one file are of one group, its path, unless a group is given.

    Args:
        rows: the rows that could be read.
        source: where files are, and which columns hold what.
        name: of the table, for what is wrong with it.
        suffixes: of the files that an id may name.
    """
    scan, finder = Scan(), FileFinder(source, suffixes)
    found: dict[str, list[ListedClip]] = defaultdict(list)
    for row in rows:
        clip, path = row.where, name
        try:
            own_id = text_of(row.values, source.keys.id)
            clip = own_id or clip
            own_path = text_of(row.values, source.keys.path)
            path = own_path or path
            listed = _listed(own_id, own_path, row.values, source, finder, scan)
            found[listed.id].append(listed)
        except LabelError as error:
            scan.reject(clip, path, str(error))
    for same in found.values():
        for clips in _parted(same):
            _settle(clips, scan, name)
    return scan


def _listed(
    clip: str | None,
    path: str | None,
    values: Mapping[str, Any],
    source: Source,
    finder: FileFinder,
    scan: Scan,
) -> ListedClip:
    keys = source.keys
    named = path or clip
    if named is None:
        raise LabelError(f"broken label: neither '{keys.id}' nor '{keys.path}' is given")
    several = keys.caption not in values and CAPTIONS in values and "caption" not in source.given
    key = CAPTIONS if several else keys.caption
    found = finder.find(named)
    stem = str(PurePosixPath(found).with_suffix(""))
    start, end = segment_of(values, keys)
    group = optional_text(values, keys.group, scan)
    is_segment = start is not None or end is not None
    return ListedClip(
        id=clip or stem,
        path=found,
        captions=captions_of(lookup(values, key), key, values),
        group=group or (stem if is_segment else clip or stem),
        category=optional_text(values, keys.category, scan),
        start_s=start,
        end_s=end,
    )


def _parted(same: list[ListedClip]) -> list[list[ListedClip]]:
    """Clips of one id, by segment; named apart where one file has several."""
    by_segment: dict[tuple[str, float | None, float | None], list[ListedClip]] = defaultdict(list)
    for clip in same:
        by_segment[clip.path, clip.start_s, clip.end_s].append(clip)
    if len(by_segment) == 1 or len({clip.path for clip in same}) > 1:
        return [same]
    return [
        [replace(clip, id=f"{clip.id}@{_time(start)}-{_time(end)}") for clip in clips]
        for (_, start, end), clips in by_segment.items()
    ]


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:g}"


def _settle(same: list[ListedClip], scan: Scan, name: str) -> None:
    """One clip with the captions of all its rows; different files are nobody's."""
    if len({clip.path for clip in same}) > 1:
        for clip in same:
            scan.reject(clip.id, clip.path, f"duplicate id: {len(same)} rows of {name}")
        return
    first = same[0]
    for fact in ("group", "category"):
        differ = sum(getattr(clip, fact) not in (None, getattr(first, fact)) for clip in same)
        if differ:
            scan.left_out[fact, "another one in another row"] += differ
    captions = dict.fromkeys(text for clip in same for text in clip.captions)
    scan.clips.append(replace(first, captions=tuple(captions)))


# ---- Columns: nothing that stands in a table is passed over without a word.


def check_columns(columns: Mapping[str, str], source: Source, name: str) -> list[str]:
    """The columns that are read; every other one must be one that the config lets be.

    Args:
        columns: each column, and where it stands first.
        source: the keys in use.
        name: of the table.

    Raises:
        StudyError: a column that is needed or that the config names is absent, or one is unknown.
    """
    listed = ", ".join(f"'{column}'" for column in columns)
    keys = {field.name: getattr(source.keys, field.name) for field in fields(LabelKeys)}

    def has(key: str) -> bool:
        return key in columns or key.split(".")[0] in columns

    for fact, key in keys.items():
        if fact in source.given and not has(key):
            near = nearest_key(key, columns)
            hint = f"did you mean '{near}'?" if near else f"it has {listed}."
            raise StudyError(
                f"{name} has no column '{key}', which {_CONFIG_KEY[fact]} names; {hint}"
            )
    if not has(keys["caption"]) and CAPTIONS not in columns:
        raise StudyError(
            f"{name} has no column '{keys['caption']}'; expected data.caption_key to name one of "
            f"{listed}."
        )
    if not has(keys["id"]) and not has(keys["path"]):
        raise StudyError(
            f"{name} has neither a column 'path' nor 'id'; expected data.path_key or data.id_key "
            f"to name one of {listed}."
        )
    known = {*keys.values(), *(key.split(".")[0] for key in keys.values()), CAPTIONS}
    unknown = [column for column in columns if column not in known | source.ignored]
    if unknown and "*" not in source.ignored:
        near = nearest_key(unknown[0], keys.values())
        hint = f"did you mean '{near}'? Else name" if near else "name"
        by_name = {key: _CONFIG_KEY[fact] for fact, key in keys.items()}
        named = by_name.get(near or "", "a key of data")
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        raise StudyError(
            f"{columns[unknown[0]]}: unknown column '{unknown[0]}'{more}; {hint} it in "
            f"{named}, or in data.ignore_keys to leave it unread."
        )
    return [column for column in columns if column in known]


def entries(value: Any, name: str, key: str | None = None) -> list[dict[str, Any]]:
    """A list of objects in a published file of labels, under ``key`` if one is given.

    Raises:
        LabelError: something else stands there.
    """
    found = value.get(key) if key is not None and isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        where = f" under '{key}'" if key else ""
        raise LabelError(f"{name} has no list of objects{where}, as it is published")
    return found
