"""Pictures as clips of one frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siglip_study.base.errors import ClipError
from siglip_study.data.files import IMAGE_SUFFIXES


def is_still(path: str | Path) -> bool:
    """Whether a file is a picture, by its name."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def read_still(path: Path, n_frames: int = 1) -> NDArray[np.uint8]:
    """The picture ``n_frames`` times, upright as its camera noted: uint8 RGB ``[F, H, W, 3]``.

    Raises:
        ClipError: it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=("JPEG", "PNG", "WEBP", "BMP")) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ClipError(f"unreadable: cannot be opened as a picture ({error})") from error
    return np.stack([np.asarray(upright)] * n_frames)
