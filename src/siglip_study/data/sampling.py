"""Which frames of a clip are looked at: uniform in time, never in frame number."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Timestamps are exact fractions stored as floats; a frame shown *at* a time must not be missed.
_TOLERANCE_S = 1e-6


def frame_times(duration_s: float, n: int) -> NDArray[np.float64]:
    """The middles of ``n`` equal parts of a clip, in seconds after its first frame: ``[n]``.

    Raises:
        ValueError: ``n`` is not positive or the duration is negative or not finite.
    """
    if n < 1 or not np.isfinite(duration_s) or duration_s < 0:
        raise ValueError(f"n={n}, duration_s={duration_s}: expected n >= 1 and a duration >= 0")
    return (np.arange(n, dtype=np.float64) + 0.5) / n * duration_s


def frame_indices(pts_s: ArrayLike, n: int, duration_s: float | None = None) -> NDArray[np.int64]:
    """The frames that are on screen at :func:`frame_times`: ``[n]`` positions in ``pts_s``.

    Each time takes the last frame that begins at or before it, by the real timestamps, so a clip
    with a variable frame rate is sampled evenly in time. ``pts_s`` holds only frames that a player
    shows (frames that an edit list trims are left out before) and counts from the first of them. A
    clip with fewer frames than ``n`` gives some of them again; a clip of one frame, which a
    manifest admits only with ``min_frames=1``, gives that frame ``n`` times.

    Args:
        pts_s: ascending presentation times in seconds, the first one 0.
        n: number of frames wanted.
        duration_s: length of the clip; None: the last frame lasts as long as the median one.

    Raises:
        ValueError: ``pts_s`` is empty or does not ascend strictly from 0.
    """
    pts = np.asarray(pts_s, dtype=np.float64)
    gaps = np.diff(pts)
    if pts.size == 0 or pts[0] != 0 or (gaps <= 0).any():
        raise ValueError("pts_s must not be empty and must ascend strictly from 0")
    if duration_s is None:
        duration_s = float(pts[-1] + (np.median(gaps) if gaps.size else 0.0))
    found = np.searchsorted(pts, frame_times(duration_s, n) + _TOLERANCE_S, side="right") - 1
    return np.clip(found, 0, pts.size - 1).astype(np.int64)
