"""What readers of dataset layouts share: what they are asked, what they give, values of a label.

A reader looks at names and labels only; no video is opened here. It is a function ``read(source)``
that gives a :class:`Scan`. Files are found by ``files``, tables of clips are read by ``rows``.
"""

from __future__ import annotations

import difflib
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# ---- What a reader is asked, and what it gives.


@dataclass(frozen=True)
class LabelKeys:
    """Where the facts of a clip stand: dotted keys into a label, or columns of a table."""

    id: str = "id"
    path: str = "path"
    caption: str = "caption"
    group: str = "group"
    category: str = "category"
    start: str = "start_s"
    end: str = "end_s"


@dataclass(frozen=True)
class Source:
    """One split of a dataset, as a reader is asked for it."""

    root: Path
    #: what ``data.splits`` names: a folder below the root, or the stem of a file in it
    folder: str
    keys: LabelKeys = field(default_factory=LabelKeys)
    #: names of the keys that the config gives: each must stand in some label
    given: frozenset[str] = frozenset()
    video_folder: str | None = None
    label_folder: str | None = None
    #: columns that are known to be of no use; "*": all that have none
    ignored: frozenset[str] = frozenset()
    follow_links: bool = False


@dataclass(frozen=True)
class ListedClip:
    """A clip with its label. ``path`` is relative to the dataset's root, with forward slashes.

    A clip with ``start_s`` or ``end_s`` is that segment of the file, in seconds of what a player
    shows; without them it begins with the file or ends with it.
    """

    id: str
    path: str
    captions: tuple[str, ...]
    #: the source video: clips of one group never stand on two sides of a comparison
    group: str
    category: str | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Rejection:
    """A clip or label that cannot be used; ``reason`` is ``kind: detail``."""

    id: str
    path: str
    reason: str

    @property
    def kind(self) -> str:
        """What comes before the colon."""
        return self.reason.split(":", 1)[0]


@dataclass
class Scan:
    """What a reader found in one split."""

    clips: list[ListedClip] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    #: (key, what stood there) → labels whose value under an optional key was of no use
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)

    def reject(self, clip: str, path: str, reason: str) -> None:
        """Note a clip or label that cannot be used, with the reason as ``kind: detail``."""
        self.rejected.append(Rejection(in_short(clip), in_short(path), reason))


def in_short(text: str) -> str:
    """A text from a label as a message holds it: not all of one that is long beyond reason."""
    return text if len(text) <= 300 else f"{text[:100]}…"


Reader = Callable[[Source], Scan]


class LabelError(Exception):
    """A label cannot be used; the message is the reason."""


# ---- Files of labels.


def read_text(data: bytes) -> str:
    """The text of a label's file, with or without a byte order mark; LabelError: no UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"broken label: not UTF-8 ({error.reason})") from error


def parse_json(data: bytes) -> Any:
    """What a label's file holds as JSON; LabelError: it is none."""
    try:
        return json.loads(read_text(data))
    except (ValueError, RecursionError) as error:
        raise LabelError(f"broken label: not JSON ({in_short(str(error))})") from error


def parse_label(data: bytes) -> dict[str, Any]:
    """The JSON object of a label's file; LabelError: it is none."""
    label = parse_json(data)
    if not isinstance(label, dict):
        raise LabelError(f"broken label: the JSON is a {type(label).__name__}, not an object")
    return label


# ---- Values of a label.


def lookup(label: Mapping[str, Any], key: str) -> Any:
    """What stands under a dotted key; None where nothing does.

    A list on the way is walked through: a number names one of its entries, and any other key is
    looked up in each of them, which gives a list. A key of the label that has dots goes first.
    """
    if key in label:
        return label[key]
    return _follow(label, key.split(".")) if "." in key else None


def _follow(value: Any, parts: list[str]) -> Any:
    for place, part in enumerate(parts):
        if isinstance(value, list) and part.isascii() and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        elif isinstance(value, list):
            found: list[Any] = []
            for entry in value:
                each = _follow(entry, parts[place:])
                found += each if isinstance(each, list) else [] if each is None else [each]
            return found or None
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            return None
    return value


def dotted_keys(label: Any, above: str = "") -> Iterator[str]:
    """Every dotted key of a label that leads to a value; of a list, those of its first entry."""
    while isinstance(label, list):
        label = label[0] if label else None
    if isinstance(label, Mapping):
        for name, value in label.items():
            yield from dotted_keys(value, f"{above}.{name}" if above else str(name))
    elif above:
        yield above


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """The known key that is written most alike, also if it is the longer or the shorter one."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    part = [name for name in names if len(name) > 2 and (name in key or key in name)]
    return next(iter(near or part), None)


#: Letters that show nothing: fillers of Hangul, and the Braille pattern without a dot.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def _is_visible(text: str) -> bool:
    """Whether some character is neither white space, control, format, nor a mark on nothing."""
    return any(
        unicodedata.category(character)[0] not in "ZCM" and character not in _BLANK_LETTERS
        for character in text
    )


def captions_of(value: Any, key: str, label: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """One text or several, stripped, NFC, each once; those that show nothing are dropped.

    ``value`` stood under ``key``, which the LabelError names where that is no text, and beside it
    the nearest key of ``label``.
    """
    if value is None:
        near = nearest_key(key, dotted_keys(label)) if label else None
        hint = f"; did you mean '{near}'?" if near not in (None, key) else ""
        raise LabelError(f"no caption: '{key}' is absent{hint}")
    listed = value if isinstance(value, list | tuple) else [value]
    texts = [text for text in listed if text is not None and text == text]  # NaN is no caption
    if not all(isinstance(text, str) for text in texts):
        raise LabelError(f"broken label: '{key}' is neither a text nor a list of texts")
    if not all(is_utf8(text) for text in texts):
        raise LabelError(f"broken label: '{key}' holds half a character (a lone surrogate)")
    normal = (unicodedata.normalize("NFC", text.strip()) for text in texts)
    kept = tuple(dict.fromkeys(text for text in normal if _is_visible(text)))
    if not kept:
        raise LabelError(f"no caption: '{key}' is empty or shows nothing")
    return kept


def text_of(label: Mapping[str, Any], key: str) -> str | None:
    """A text or number under a dotted key as NFC text; None where it is absent, empty or NaN.

    A number without a fraction is written as one (3.0 is "3"); a list of one entry is that entry.

    LabelError: something else stands there.
    """
    value = lookup(label, key)
    if value is None:  # first: most keys are absent from most labels
        return None
    if isinstance(value, list) and len(set(map(repr, value))) == 1:
        value = value[0]
    if value is None or (isinstance(value, float) and math.isnan(value)) or value == []:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise LabelError(f"broken label: '{key}' is a {type(value).__name__}, not a text")
    text = unicodedata.normalize("NFC", str(value).strip())
    if "\0" in text or not is_utf8(text):
        raise LabelError(f"broken label: '{key}' holds a character that no name can have")
    return text or None


def optional_text(label: Mapping[str, Any], key: str, scan: Scan) -> str | None:
    """:func:`text_of` under a key that no clip needs: what is no text is left out, and counted."""
    try:
        return text_of(label, key)
    except LabelError:
        scan.left_out[key, type(lookup(label, key)).__name__] += 1
        return None


def seconds_of(label: Mapping[str, Any], key: str) -> float | None:
    """Seconds under a dotted key; None where it is absent or empty; LabelError: no such number."""
    value = text_of(label, key)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise LabelError(f"broken label: '{key}' is '{in_short(value)}'; expected seconds")
    return seconds


def segment_of(label: Mapping[str, Any], keys: LabelKeys) -> tuple[float | None, float | None]:
    """Start and end of a segment in seconds, None where there is none.

    LabelError: no such numbers, or the end does not follow the start.
    """
    start, end = seconds_of(label, keys.start), seconds_of(label, keys.end)
    if end is not None and end <= (start or 0.0):
        raise LabelError(f"broken label: a segment from {start or 0:g} s to {end:g} s")
    return start, end


def is_utf8(text: str) -> bool:
    """Whether a text can be written at all: a lone surrogate cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
