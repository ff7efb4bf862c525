"""What a benchmark hands back: tables to read, numbers to calculate with, agreement of results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Cell = str | float | None


@dataclass
class Table:
    """A title, columns, rows, and sentences on what the figures mean."""

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as Markdown, which a terminal shows readably too."""
        lines = [self.columns, ["---"] * len(self.columns)]
        lines += [[_shown(cell) for cell in row] for row in self.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        notes = "".join(f"\n{note}" for note in self.notes)
        return f"### {self.title}\n\n{body}\n{notes}\n"


@dataclass
class Result:
    """One benchmark.

    ``parts`` are seconds by name, from which the whole study is projected; ``agreement`` says how
    far both sides' results are apart (0: equal), so that like is compared with like. ``machine``
    and ``date`` are those of its figures, once they have been kept.
    """

    tables: list[Table] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    skipped: str | None = None
    machine: str = ""
    date: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "tables": [vars(table) for table in self.tables],
            "parts": self.parts,
            "agreement": self.agreement,
            "skipped": self.skipped,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Result:
        """The inverse of :meth:`as_json`."""
        tables = [Table(**table) for table in raw["tables"]]
        return cls(
            tables, raw["parts"], raw["agreement"], raw["skipped"], raw["machine"], raw["date"]
        )

    def text(self) -> str:
        """All tables, or why there are none."""
        if self.skipped:
            return f"SKIPPED: {self.skipped}\n"
        shown = "\n".join(table.markdown() for table in self.tables)
        if not self.agreement:
            return shown
        apart = "; ".join(f"{name} {value:.2g}" for name, value in self.agreement.items())
        return f"{shown}\nApart from each other: {apart}.\n"


def _shown(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if cell == 0 or abs(cell) >= 100:
        return f"{cell:.0f}"
    return f"{cell:.3g}"
