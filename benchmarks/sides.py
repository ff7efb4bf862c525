"""Each side of a comparison in a process of its own, in rounds of changing order.

In one process the second side pays for what the first has left behind: kernels' priorities,
compiled graphs, an allocator's habits. A published step takes a third longer after ours than alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.inputs import SIZES, Size

ROUNDS = 2
#: Times one side: (benchmark, side, size, device) → figures in plain types.
Start = Callable[[str, str, Size, torch.device], dict[str, Any]]


@dataclass(frozen=True)
class Ratio:
    """Published seconds over ours: of the medians over processes, and of any two of these."""

    middle: float
    lowest: float
    highest: float

    @property
    def spread(self) -> str:
        return f"{self.lowest:.3g} to {self.highest:.3g}"


@dataclass(frozen=True)
class Found:
    """Side → what its processes found, one a round."""

    sides: dict[str, list[dict[str, Any]]]

    def counted(self) -> str:
        """How many processes there were of each side."""
        return ", ".join(f"{len(each)} of {side}" for side, each in self.sides.items())

    def figures(self) -> dict[str, list[dict[str, Any]]]:
        """All of it but the values by which the sides' results were compared."""
        return {
            side: [{k: v for k, v in one.items() if not isinstance(v, list)} for one in each]
            for side, each in self.sides.items()
        }

    def first(self, side: str) -> dict[str, Any]:
        """Figures of the first process."""
        return self.sides[side][0]

    def each(self, side: str, *keys: str) -> list[float]:
        """A figure of every process that has it."""
        found = []
        for figures in self.sides[side]:
            value: Any = figures
            for key in keys:
                value = value.get(key) if value is not None else None
            if value is not None:
                found.append(float(value))
        return found

    def middle(self, side: str, *keys: str) -> float:
        """Median over processes."""
        return median(self.each(side, *keys))

    def ratio(self, published: Sequence[str], ours: Sequence[str], side: str = "ours") -> Ratio:
        """Of the seconds under these keys."""
        return ratio_of(self.each("published", *published), self.each(side, *ours))


def ratio_of(published: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Of the seconds of every process."""
    return Ratio(
        median(published) / median(ours),
        min(published) / max(ours),
        max(published) / min(ours),
    )


def compare(name: str, size: Size, device: torch.device, rounds: int, start: Start) -> Found:
    """Time every side of benchmark ``name`` ``rounds`` times: published first, then ours first."""
    sides = list(importlib.import_module(f"benchmarks.{name}").SIDES)
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            print(f"  round {number + 1}: {side}", flush=True)
            found[side].append(start(name, side, size, device))
    return Found(found)


def here(name: str, side: str, size: Size, device: torch.device) -> dict[str, Any]:
    """Time a side in this process."""
    figures: dict[str, Any] = importlib.import_module(f"benchmarks.{name}").SIDES[side](
        size, device
    )
    return figures


def in_own_process(name: str, side: str, size: Size, device: torch.device) -> dict[str, Any]:
    """Time a side in a process that does nothing else."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        wanted = [name, side, size.name, device.type, str(out)]
        subprocess.run([sys.executable, "-m", "benchmarks.sides", *wanted], check=True)
        figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return figures


def main() -> None:
    """Be that process."""
    parser = argparse.ArgumentParser()
    for argument in ("name", "side", "size", "device", "out"):
        parser.add_argument(argument)
    given = parser.parse_args()
    figures = here(given.name, given.side, SIZES[given.size], torch.device(given.device))
    Path(given.out).write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
