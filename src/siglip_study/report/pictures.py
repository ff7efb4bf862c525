"""Pictures of clips for the gallery, decoded from the videos themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from siglip_study.data.decoding import get_decoder
from siglip_study.report.gallery import jpeg_thumbnails


def clip_pictures(
    manifest: Path, root: Path, decoder: str, frames: int
) -> Callable[[str], list[bytes]]:
    """A function from a clip's id to JPEG files of ``frames`` frames, uniform in time."""
    table = pl.read_parquet(manifest, columns=["id", "path"])
    where = dict(zip(table["id"].to_list(), table["path"].to_list(), strict=True))
    reader = get_decoder(decoder)

    def pictures(clip: str) -> list[bytes]:
        return jpeg_thumbnails(reader.read(root / where[clip], frames))

    return pictures
