"""Which cells were chosen, and which of them report which clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from siglip_study.base.io import read_json

#: Schema of ``selection.json``.
SELECTION_SCHEMA = "selection/2"
#: Earlier ones, in which the choice itself is told alike.
_OLDER_SCHEMAS = ("selection/1",)
#: Projector → held-out split → the tuning cell whose fresh runs report it.
Choice = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Scoring:
    """One scoring job: captions of a split, of the tuning cells or of all that is reported.

    ``other`` is the half that fits what this half's scores need, under cross-fitting.
    """

    name: str
    split: str
    tunes: bool
    other: str | None = None


@dataclass(frozen=True)
class Entry:
    """What stands for a projector and seed in the ranking: split → the cell that reports it.

    One cell, under its own name, but where the halves of a held-out split chose differently.
    """

    name: str
    label: str
    parts: Mapping[str, str]

    @property
    def is_joined(self) -> bool:
        """Whether two cells report a half each."""
        return len(set(self.parts.values())) > 1


def chosen_cells(choice: Choice) -> list[str]:
    """The distinct tuning cells of a choice, which are trained afresh."""
    return list(dict.fromkeys(name for parts in choice.values() for name in parts.values()))


def read_choice(path: Path) -> Choice:
    """The choice that ``selection.json`` holds.

    That of an earlier version is read too: the study asks what was chosen before it chooses anew.

    Raises:
        StudyError: the file is missing or of another schema.
    """
    projectors = read_json(path, SELECTION_SCHEMA, *_OLDER_SCHEMAS)["projectors"]
    return {
        label: row.get("reports") or {"report": row["chosen"]} for label, row in projectors.items()
    }
