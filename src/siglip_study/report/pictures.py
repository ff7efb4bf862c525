"""Pictures of a clip: its frames in order of time on one small sheet, which the page can play."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siglip_study.base.io import read_parquet
from siglip_study.data.clips import clip_files
from siglip_study.data.decoding import read_frames

#: Width of one frame in pixels, at most.
WIDTH = 128
#: Frames side by side on a sheet, at most; further ones begin a new row.
COLUMNS = 4
#: Bytes a sheet may take. Quality gives way first, then size.
SHEET_BYTES = 8_000
_QUALITIES = (60, 45, 30, 18, 8)


@dataclass(frozen=True)
class Grid:
    """How the frames of a sheet lie: ``columns`` side by side, in ``rows`` rows."""

    columns: int
    rows: int


def sheet_grid(frames: int) -> Grid:
    """The grid of a sheet of so many frames."""
    columns = min(frames, COLUMNS)
    return Grid(columns, -(-frames // columns))


def contact_sheet(frames: NDArray[np.uint8], max_bytes: int = SHEET_BYTES) -> bytes:
    """Frames ``[F, H, W, 3]`` as one WebP file, row by row in order of time.

    Frames are at most :data:`WIDTH` pixels wide and never enlarged. A sheet that no quality brings
    under ``max_bytes`` is made smaller, down to frames of 16 pixels.
    """
    from PIL import Image

    count, height, width = frames.shape[:3]
    grid = sheet_grid(count)
    scale = min(1.0, WIDTH / width)
    while True:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        sheet = Image.new("RGB", (size[0] * grid.columns, size[1] * grid.rows))
        for i, frame in enumerate(frames):
            place = (i % grid.columns) * size[0], (i // grid.columns) * size[1]
            sheet.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), place)
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            sheet.save(buffer, "WEBP", quality=quality, method=4)
            if buffer.tell() <= max_bytes:
                return buffer.getvalue()
        if size[0] <= 16:
            return buffer.getvalue()
        scale *= 0.75


def clip_pictures(manifest: Path, root: Path, frames: int) -> Callable[[str], bytes]:
    """A function from a clip's id to the sheet of ``frames`` frames, uniform in time."""
    files = clip_files(read_parquet(manifest), root)

    def pictures(clip: str) -> bytes:
        return contact_sheet(read_frames(files[clip], frames))

    return pictures
