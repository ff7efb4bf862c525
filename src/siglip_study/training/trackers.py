"""Curves of a training in TensorBoard, trackio or W&B, beside the files that stay the truth.

``steps.parquet`` and ``epochs.parquet`` hold every row; a tracker gets the same rows as each epoch
ends, through accelerate's tracker classes, on this machine alone: W&B is offline (``wandb sync``
sends it), trackio writes a file. A life that was killed and resumed sends no row twice, unless it
was killed between an epoch's rows and its save.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.training.resume import Position

#: Projects of trackers that keep runs of many.
_PROJECT = "siglip-study"


def require_trackers(names: Sequence[str]) -> None:
    """Raise StudyError where a tracker's package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise StudyError(
                f"runtime.trackers names '{name}', which is not installed; expected its package: "
                f"`.venv/bin/pip install {name}`."
            )


@contextmanager
def tracked(names: Sequence[str], folder: Path, run: str) -> Iterator[Callable[[Position], None]]:
    """Yield what sends the rows of the epoch that has just ended; nothing is done without names.

    Args:
        names: of accelerate's trackers.
        folder: where they write.
        run: name of the training.

    Raises:
        StudyError: a tracker is not installed.
    """
    require_trackers(names)
    if names:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["TRACKIO_DIR"] = str(folder.absolute() / "trackio")
    trackers = [_opened(name, folder, run) for name in names]
    for tracker in trackers:
        tracker.start()

    def send(position: Position) -> None:
        last = position.epochs[-1]
        rows = [row for row in position.steps if row["epoch"] == last["epoch"]]
        for tracker in trackers:
            for row in rows:
                tracker.log(_figures(row), step=row["step"])
            told = {f"epoch/{name}": figure for name, figure in _figures(last).items()}
            tracker.log(told, step=last["step"])

    try:
        yield send
    finally:
        for tracker in trackers:
            tracker.finish()


def _opened(name: str, folder: Path, run: str) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    if kind.requires_logging_directory:
        return kind(run, str(folder / name))
    offline = {"mode": "offline", "dir": str(folder)} if name == "wandb" else {}
    return kind(_PROJECT, name=run, **offline)


def _figures(row: dict[str, Any]) -> dict[str, float]:
    figures = {name: value for name, value in row.items() if isinstance(value, int | float)}
    figures.pop("step", None)  # told beside them
    return figures
