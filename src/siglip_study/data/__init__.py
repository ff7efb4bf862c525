"""Dataset layouts → one manifest; frames sampled in time and decoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Raise it when the same dataset gives another manifest or other rejections.
VERSION = 2


def sample_frames(
    path: str | Path,
    n: int,
    decoder: str = "pyav",
    start_s: float | None = None,
    end_s: float | None = None,
) -> NDArray[np.uint8]:
    """``n`` frames of a video, uniform in time, as a player shows them: RGB ``[n, H, W, 3]``.

    A clip of fewer frames gives some of them again. ``start_s`` and ``end_s`` take a segment, in
    seconds after the first frame. ``decoder`` is "pyav", or "decord" to read by it the kind of file
    on which it gives the same frames (docs/video-formats.md).

    Raises:
        ClipError: the clip cannot be used, and why.
        StudyError: no such decoder.
    """
    from siglip_study.data.clips import ClipFile
    from siglip_study.data.decoding import read_frames, require_decoder
    from siglip_study.data.probing import probe_clip

    require_decoder(decoder)
    by_decord = decoder == "decord" and probe_clip(Path(path)).suits_decord
    reading: Literal["decord"] | None = "decord" if by_decord else None
    return read_frames(ClipFile(Path(path), start_s, end_s, reading), n)
