"""What a rehearsal found: as lines for a terminal, and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.io import atomic_path, write_json
from siglip_study.planning.disk import Disk
from siglip_study.planning.rows import Row
from siglip_study.planning.step_times import SCHEMA
from siglip_study.planning.table import gigabytes, rows_table


@dataclass(frozen=True)
class Rehearsal:
    """The table, and what is said around it."""

    device: str
    how: str
    rows: list[Row]
    sources: tuple[str, ...]
    disk: Disk
    disk_free: int
    problems: list[str]
    elsewhere: list[str]
    runs: str
    training: dict[str, Any]
    seconds: float

    @property
    def hours(self) -> float:
        """Device hours of the whole study."""
        return sum(row.hours or 0.0 for row in self.rows)

    def text(self) -> str:
        """The whole of it as lines for a terminal."""
        disk = self.disk
        lines = [f"Rehearsal on {self.device}: {self.how}.", self.runs]
        lines += [f"  {source}" for source in self.sources]
        lines += ["", *rows_table(self.rows), ""]
        lines += [
            "Hours are device hours. Not in the table: decoding of clips and metrics (CPU).",
            f"Disk: features {gigabytes(disk.features)}, "
            f"checkpoints {gigabytes(disk.checkpoints)}, "
            f"running stage {gigabytes(disk.resume)}; {gigabytes(self.disk_free)} are free. "
            f"Models to fetch once: {gigabytes(disk.models)}.",
            *self.elsewhere,
        ]
        if self.problems:
            lines += ["What will not fit:", *(f"  {problem}" for problem in self.problems)]
        else:
            lines += ["Everything fits."]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """JSON types, for ``rehearsal.json``."""
        return {
            "device": self.device,
            "how": self.how,
            "runs": self.runs,
            "sources": list(self.sources),
            "rows": [row.as_json() for row in self.rows],
            "hours": self.hours,
            "training": self.training,
            "disk": asdict(self.disk) | {"free": self.disk_free},
            "problems": self.problems,
            "elsewhere": self.elsewhere,
            "seconds": self.seconds,
        }

    def write(self, folder: Path) -> None:
        """``rehearsal.json`` and ``rehearsal.txt`` in ``folder``."""
        write_json(folder / "rehearsal.json", self.as_json(), SCHEMA)
        with atomic_path(folder / "rehearsal.txt") as partial:
            partial.write_text(self.text() + "\n", encoding="utf-8")
