"""Keeps the written documentation of the config equal to the code.

Run with: ``python -m siglip_study.config_docs config``
"""

from __future__ import annotations

import sys
from pathlib import Path

from siglip_study.config import keys_table, schema_text
from siglip_study.errors import StudyError
from siglip_study.io import atomic_path

_TABLE_BEGINS = "| key | default | meaning |"


def documents(folder: Path) -> dict[Path, str]:
    """The generated files of ``folder`` (``README.md``, ``schema.json``) and what they should hold.

    Text above the table of ``README.md`` is written by hand and kept; the table is the file's end.

    Raises:
        StudyError: ``README.md`` is missing or has no table to replace.
    """
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if _TABLE_BEGINS not in text:
        raise StudyError(f"{readme}: found no table; expected a line '{_TABLE_BEGINS}'.")
    above = text[: text.index(_TABLE_BEGINS)]
    return {readme: above + keys_table(), folder / "schema.json": schema_text()}


def main(folder: Path) -> None:
    """Rewrite the generated files of ``folder``."""
    for path, text in documents(folder).items():
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
