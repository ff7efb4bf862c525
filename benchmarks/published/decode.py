"""The published decoding: one clip after the other, OpenCV seeking to each frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_frames(path: Path, n_frames: int, indices: list[int] | None = None) -> NDArray[np.uint8]:
    """``n_frames`` frames, uniform in number: uint8 RGB ``[F, H, W, 3]``.

    Args:
        path: the clip.
        n_frames: how many.
        indices: frame numbers to read instead, to compare with another decoder's frames.
    """
    import cv2  # type: ignore[import-not-found, unused-ignore]

    capture = cv2.VideoCapture(str(path))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for index in indices or np.linspace(0, total - 1, n_frames).astype(int).tolist():
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        _, frame = capture.read()
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(frames)
