"""Tables that a command writes into a page, between two markers named after them."""

from __future__ import annotations

from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path


def markers(name: str) -> tuple[str, str]:
    """The lines between which a table stands in Markdown."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def with_tables(page: Path, tables: dict[str, str]) -> str:
    """The text of a page with each table, by name, in the place of what stands there.

    Raises:
        StudyError: a marker is missing, or there are two of it.
    """
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = markers(name)
        for marker in (begin, end):
            if (count := text.count(marker)) != 1:
                raise StudyError(
                    f"{page}: {count} lines '{marker}'; expected one, for the table's place."
                )
        head, tail = text.split(begin)[0], text.split(end)[1]
        text = f"{head}{begin}\n{table.rstrip()}\n{end}{tail}"
    return text


def write_tables(page: Path, tables: dict[str, str]) -> None:
    """Write that text into the page."""
    text = with_tables(page, tables)
    with atomic_path(page) as partial:
        partial.write_text(text, encoding="utf-8")
