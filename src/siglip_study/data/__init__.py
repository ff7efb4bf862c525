"""Dataset layouts → one manifest; frames sampled in time and decoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Raise it when the same dataset gives another manifest or other rejections.
VERSION = 1


def sample_frames(path: str | Path, n: int, decoder: str = "pyav") -> NDArray[np.uint8]:
    """``n`` frames of a video, uniform in time and upright: RGB ``[n, H, W, 3]``.

    A clip of fewer frames gives some of them again. ``decoder`` is "pyav" or "decord"; both give
    the same frames.

    Raises:
        ClipError: the clip cannot be used, and why.
        StudyError: no such decoder.
    """
    from siglip_study.data.decoding import Decoder

    return Decoder(decoder).read(Path(path), n)
