"""Real clips, made with PyAV and read by it from end to end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import polars as pl

from siglip_study.config.study import DataConfig
from siglip_study.data import decoding
from siglip_study.data.manifest import vet_split
from siglip_study.data.probing import open_clip, probe_container
from siglip_study.data.summary import Unused

TICKS = 600  # a second, in the clips' time base


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    ticks: Sequence[int] = range(0, 600, 20),
    encoder: str = "libx264",
    options: Mapping[str, str] | None = None,
    pixels: str = "yuv420p",
    faststart: bool = False,
) -> Path:
    """Encode pictures ``[height, width, 3]``, one a tick."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as file:
        stream = file.add_stream(encoder, rate=30)
        stream.options = {"threads": "1", **(options or {})}
        for i, (tick, picture) in enumerate(zip(ticks, pictures, strict=True)):
            if i == 0:
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.codec_context.time_base = pixels, Fraction(1, TICKS)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, TICKS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_clip(
    path: Path,
    ticks: Sequence[int] = range(0, 600, 20),
    width: int = 128,
    height: int = 96,
    b_frames: int = 0,
    gop: int = 250,
    pixels: str = "yuv420p",
    faststart: bool = False,
) -> Path:
    """Frames whose grey level is 8 times their number, with a white top left corner."""
    pictures = [np.full((height, width, 3), 8 * i % 256, np.uint8) for i in range(len(ticks))]
    for picture in pictures:
        picture[: height // 4, : width // 4] = 255
    options = {"bf": str(b_frames), "g": str(gop), "crf": "4"}
    return write_video(path, pictures, ticks, "libx264", options, pixels, faststart)


def manifest_rows(paths: Sequence[str], ids: Sequence[str]) -> pl.DataFrame:
    """The columns of a manifest by which clips are found and read: each is a whole file."""
    hashes = [f"hash of {path}" for path in paths]
    facts = {"id": ids, "path": paths, "sha256": hashes, "reading": ["packets"] * len(ids)}
    spans = {name: pl.Series([None] * len(ids), dtype=pl.Float64) for name in ("start_s", "end_s")}
    return pl.DataFrame({**facts, **spans})


def every_frame(path: Path) -> np.ndarray:
    """All frames ``[n, height, width, 3]`` as PyAV gives them one after the other."""
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def picked(path: Path, wanted: list[int]) -> np.ndarray:
    """The frames of these numbers as the project reads them."""
    with open_clip(path) as container:
        return decoding.pick(container, path, probe_container(container), wanted)


def check_splits(
    root: Path, data: DataConfig, sampled: Sequence[int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Manifest and rejected clips of a dataset, each split checked by itself, as jobs do."""
    parts = [vet_split(root, data, split, sampled) for split in data.splits]
    unused = Unused.joined(unused for _, unused in parts)
    return pl.concat([clips for clips, _ in parts]), unused.table()
