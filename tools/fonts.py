"""Make the page's fonts, ``report/fonts/*.woff``, from NanumGothic's TrueType files.

Run with:

    python -m tools.fonts NanumGothic.ttf NanumGothicBold.ttf report/fonts
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from siglip_study.report.embed import BOLD, FAMILY, REGULAR, subset_font

_HANGUL = [range(0x1100, 0x1200), range(0x3130, 0x3190), range(0xAC00, 0xD7A4)]
# No backslash: by Korean custom the font draws a won sign in its place.
_LATIN = [
    range(0x20, 0x5C),
    range(0x5D, 0x180),
    range(0x370, 0x400),
    range(0x2000, 0x2070),
    range(0x2190, 0x2270),
    range(0x2460, 0x2474),
    range(0x25A0, 0x2600),
    range(0x3000, 0x3040),
]


def build_fonts(regular: Path, bold: Path, folder: Path) -> None:
    """Make the committed fonts from NanumGothic's TrueType files, under a name of their own.

    The regular weight keeps all 11,172 syllables and the jamo; the bold one, used for headings,
    keeps the Latin part.
    """
    from fontTools.ttLib import TTFont

    latin = {code for block in _LATIN for code in block}
    hangul = {code for block in _HANGUL for code in block}
    for source, name, codes, style in (
        (regular, REGULAR, latin | hangul, "Regular"),
        (bold, BOLD, latin, "Bold"),
    ):
        font = TTFont(io.BytesIO(subset_font(source, codes)))
        for table in font["cmap"].tables:
            # The original has no minus sign (U+2212); the en dash is its nearest shape.
            if table.isUnicode() and 0x2013 in table.cmap:
                table.cmap[0x2212] = table.cmap[0x2013]
        names = {1: FAMILY, 2: style, 3: f"{FAMILY} {style}", 4: f"{FAMILY} {style}"}
        names[6] = f"StudyGothic-{style}"
        for record in list(font["name"].names):
            if record.nameID in names:
                record.string = names[record.nameID]
            elif record.nameID in (7, 16, 17, 18):
                font["name"].names.remove(record)
        font.flavor = "woff"
        font.save(str(folder / name))


def main() -> None:
    """Write both weights into the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("regular", "bold", "folder"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    build_fonts(given.regular, given.bold, given.folder)


if __name__ == "__main__":
    main()
