"""What a page carries within itself: data and scripts that stay inert, and a Korean font."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError

# Every character that could end the script element, open a comment, or (in old parsers) a line.
_ESCAPES = {
    ord("<"): "\\u003c",
    ord(">"): "\\u003e",
    ord("&"): "\\u0026",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def json_island(obj: Any) -> str:
    """JSON that is inert inside ``<script type="application/json">`` and parses back to ``obj``.

    Floats that JSON cannot hold become null.
    """
    text = json.dumps(_finite(obj), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate cannot be encoded as UTF-8; JSON can still spell it.
    text = re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m.group()):04x}", text)
    return text.translate(_ESCAPES)


def inline_script(source: str) -> str:
    """Trusted script text that no HTML parser can take for the end of its element."""
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", source, flags=re.IGNORECASE)


def content_policy(scripts: Iterable[str]) -> str:
    """Content-Security-Policy that lets the page's own scripts run and nothing reach the network.

    Scripts are allowed by hash alone, so text that slipped into the page would still not run, and
    ``eval`` stays forbidden. Styles need ``'unsafe-inline'``: colours of projectors and widths of
    figures are style attributes.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def _finite(obj: Any) -> Any:
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, dict):
        return {str(key): _finite(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_finite(value) for value in obj]
    return obj


# ---- A Korean font in the page: the committed one, cut down to the glyphs that the page uses.

#: Family name of the reduced fonts. The originals' names are reserved by their licence (OFL).
FAMILY = "Study Gothic"
#: Hangul has a family of its own and one weight: what is bold is then drawn bolder from it, and
#: not looked for in the bold font, which has Latin alone.
HANGUL_FAMILY = "Study Gothic Hangul"
REGULAR = "StudyGothic-Regular.woff"
BOLD = "StudyGothic-Bold-Latin.woff"

#: First of the CJK symbols; Latin, Greek, punctuation and signs lie below.
_BEYOND_LATIN = 0x3000
#: Always kept: charts and tables draw figures that appear in no text of the page.
ALWAYS = frozenset(range(0x20, 0x7F)) | {ord(c) for c in "−–—×±·…≤≥→↑↓°κΔ‘’“”"}


def embedded_fonts(folder: Path, text: Iterable[str]) -> list[dict[str, Any]]:
    """Fonts for ``@font-face``: ``[{"family", "weight", "url"}]`` with only the glyphs of ``text``.

    Characters the fonts lack (Hanja, emoji) fall back to the reader's own fonts.

    Raises:
        StudyError: a committed font is missing.
    """
    used = set(ALWAYS)
    for part in text:
        used.update(map(ord, part))
    hangul = {code for code in used if code >= _BEYOND_LATIN}
    faces = []
    for family, name, weight, characters in (
        (FAMILY, REGULAR, 400, used - hangul),
        (FAMILY, BOLD, 700, used - hangul),
        (HANGUL_FAMILY, REGULAR, 400, hangul),
    ):
        path = folder / name
        if not path.is_file():
            raise StudyError(f"{path}: no such font; expected the one kept with the template.")
        data = base64.b64encode(subset_font(path, characters)).decode()
        faces.append({"family": family, "weight": weight, "url": f"data:font/woff;base64,{data}"})
    return faces


def subset_font(source: Path, characters: set[int]) -> bytes:
    """Font ``source`` with the glyphs of ``characters`` alone, as WOFF."""
    from fontTools import subset

    # fontTools reports every table it leaves out; the tables are hints that screens do not use.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    options = subset.Options(
        hinting=False, flavor="woff", layout_features=["kern", "liga"], notdef_outline=True
    )
    options.name_IDs = ["*"]
    font = subset.load_font(str(source), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    font.flavor = "woff"
    buffer = io.BytesIO()
    font.save(buffer, reorderTables=False)
    return buffer.getvalue()
