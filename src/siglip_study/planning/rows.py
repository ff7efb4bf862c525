"""A line of the rehearsal's table: a part of the study, its unit, and what a unit costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """Seconds a unit and GPU memory (GiB); ``problem`` says why there is none."""

    seconds: float | None
    gib: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Row:
    """One part of the study.

    ``unit`` is what is counted in ``units``; ``estimated`` follows from formulas and is None where
    the device is not in the table of GPUs, ``measured`` is None where nothing could be timed.
    """

    part: str
    shape: str
    unit: str
    units: int
    estimated: Cost | None
    measured: Cost | None

    @property
    def cost(self) -> Cost:
        """What counts: the measured cost where there is one."""
        found = self.measured or self.estimated
        return found if found is not None else Cost(None)

    @property
    def hours(self) -> float | None:
        """Device hours of all units."""
        seconds = self.cost.seconds
        return None if seconds is None else seconds * self.units / 3600

    def as_json(self) -> dict[str, Any]:
        """JSON types."""
        return {**asdict(self), "hours": self.hours}
