"""A clip as it lies on disk, and which of its frames are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siglip_study.base.errors import ClipError

if TYPE_CHECKING:
    import polars as pl

#: How a clip is read (see ``decoding``).
Reading = Literal["packets", "whole", "decord"]


@dataclass(frozen=True)
class ClipFile:
    """A clip as it lies on disk: a file or a segment of it, and how it is read.

    ``start_s`` and ``end_s`` count from the first frame that a player shows; None: from the start,
    to the end. ``reading`` None: by the packets where these alone suffice
    (``ClipInfo.each_shows``, and no edit list trims), else whole.
    """

    path: Path
    start_s: float | None = None
    end_s: float | None = None
    reading: Reading | None = None

    def within(self, duration_s: float) -> tuple[float, float]:
        """Start and duration in seconds, of a file that lasts ``duration_s``.

        A segment that ends after the file ends with it: annotations are often rounded.

        Raises:
            ClipError: nothing of the segment lies in the file.
        """
        start = self.start_s or 0.0
        end = duration_s if self.end_s is None else min(self.end_s, duration_s)
        if not 0 <= start < end and (start or self.end_s is not None):
            raise ClipError(
                f"outside: the segment is {start:g} to {self.end_s if self.end_s else end:g} s of "
                f"a file of {duration_s:.6g} s; expected a part of it"
            )
        return start, end - start


def clip_files(rows: pl.DataFrame, root: Path) -> dict[str, ClipFile]:
    """The clips of a manifest's rows by id; paths are relative to ``root``."""
    columns = ("id", "path", "start_s", "end_s", "reading")
    return {
        clip: ClipFile(root / path, start_s, end_s, reading)
        for clip, path, start_s, end_s, reading in rows.select(columns).iter_rows()
    }


# ---- Which frames of a clip are looked at: uniform in time, never in frame number.

# Timestamps are exact fractions stored as floats; a frame shown *at* a time must not be missed.
_TOLERANCE_S = 1e-6


def frame_times(duration_s: float, n: int) -> NDArray[np.float64]:
    """The middles of ``n`` equal parts of a clip, in seconds after its start: ``[n]``.

    Raises:
        ValueError: ``n`` is not positive or the duration is negative or not finite.
    """
    if n < 1 or not np.isfinite(duration_s) or duration_s < 0:
        raise ValueError(f"n={n}, duration_s={duration_s}: expected n >= 1 and a duration >= 0")
    return (np.arange(n, dtype=np.float64) + 0.5) / n * duration_s


def frame_indices(
    pts_s: ArrayLike,
    n: int,
    duration_s: float,
    start_s: float = 0.0,
    per_second: float | None = None,
) -> NDArray[np.int64]:
    """The frames that are on screen at :func:`frame_times`: ``[n]`` positions in ``pts_s``.

    Each time takes the last frame that begins at or before it, by the real timestamps, so a clip
    with a variable frame rate is sampled evenly in time. ``pts_s`` holds only frames that a player
    shows (none that an edit list trims) and counts from the first of them; the clip is what lies
    within ``duration_s`` after ``start_s``. A clip with fewer frames than ``n`` gives some of them
    again. With ``per_second`` it is looked at so often, ``n`` times at most and once at least, and
    each of these frames is given again until there are ``n``.

    Raises:
        ValueError: ``pts_s`` is empty or does not ascend strictly from 0.
    """
    pts = np.asarray(pts_s, dtype=np.float64)
    if pts.size == 0 or pts[0] != 0 or (np.diff(pts) <= 0).any():
        raise ValueError("pts_s must not be empty and must ascend strictly from 0")
    looks = n if per_second is None else max(1, min(n, round(duration_s * per_second)))
    times = start_s + frame_times(duration_s, looks) + _TOLERANCE_S
    found = np.searchsorted(pts, times[np.arange(n) * looks // n], side="right") - 1
    return np.clip(found, 0, pts.size - 1).astype(np.int64)
