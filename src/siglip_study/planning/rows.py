"""A line of the rehearsal's table: a part of the study, its unit, and what a unit costs."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from siglip_study.base.errors import StudyError

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


# ---- The rehearsal as a table for the terminal.

_HEAD = ("part", "shape", "unit", "units", "measured s", "estimated s", "GPU GiB", "hours")


def rows_table(rows: Sequence[Row]) -> list[str]:
    """Lines of a table: a head, a rule, a line a row, the sum."""
    body = [_cells(row) for row in rows]
    total = sum(row.hours or 0.0 for row in rows)
    body.append(("all", "", "", "", "", "", "", _hours(total)))
    widths = [max(len(line[i]) for line in [_HEAD, *body]) for i in range(len(_HEAD))]
    lines = [_line(_HEAD, widths), "  ".join("-" * width for width in widths)]
    return lines + [_line(line, widths) for line in body]


def gigabytes(amount: float) -> str:
    """Bytes in GB, three digits."""
    return f"{amount / 1e9:.3g} GB"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.part,
        row.shape,
        row.unit,
        f"{row.units}",
        _seconds(row.measured),
        _seconds(row.estimated),
        _gib(row.cost),
        "-" if row.hours is None else _hours(row.hours),
    )


def _seconds(cost: Cost | None) -> str:
    if cost is None or cost.seconds is None:
        return "no fit" if cost is not None and cost.problem else "-"
    return f"{cost.seconds:.3g}"


def _gib(cost: Cost) -> str:
    if cost.gib is None:
        return "-"
    return f"{cost.gib:.2g}" if cost.gib < 10 else f"{cost.gib:.0f}"


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 0.1 else f"{hours:.4f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join([*left, *right]).rstrip()


# ---- A stopwatch and a memory gauge around a piece of work.


def wait(device: torch.device) -> None:
    """Let a GPU finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Meter:
    """What a block cost; ``seconds`` is set within it."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.gib: float | None = None
        self.problem: str | None = None

    @property
    def cost(self) -> Cost:
        """What was found."""
        return Cost(self.seconds, self.gib, self.problem)


@contextmanager
def measured(device: torch.device) -> Iterator[Meter]:
    """Note the peak of GPU memory; running out of it is a finding, not an end."""
    meter = Meter()
    on_gpu = device.type == "cuda"
    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        yield meter
    except torch.cuda.OutOfMemoryError:
        meter.problem = "does not fit this GPU's memory"
    except StudyError as error:
        # The memory plan says so in its own words.
        if "memory" not in str(error):
            raise
        meter.problem = str(error)
    finally:
        if on_gpu:
            meter.gib = torch.cuda.max_memory_allocated(device) / GIB
