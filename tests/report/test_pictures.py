"""Gallery pictures, decoded from real files."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from siglip_study.report.gallery import clip_pictures

WIDTH, HEIGHT = 320, 240


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """One clip of 2 s that is red, then blue, below a folder with a Korean name."""
    import av

    path = tmp_path / "영상" / "clip.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(20):
            picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            picture[..., 0 if i < 10 else 2] = 220
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    manifest = pl.DataFrame({"id": ["한 클립"], "path": ["영상/clip.mp4"], "split": ["report"]})
    manifest.write_parquet(tmp_path / "manifest.parquet")
    return tmp_path


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_pictures_are_small_jpegs_in_order_of_time(dataset, decoder):
    pictures = clip_pictures(dataset / "manifest.parquet", dataset, decoder, 3)("한 클립")
    assert len(pictures) == 3 and all(p.startswith(b"\xff\xd8") for p in pictures)
    images = [Image.open(io.BytesIO(p)).convert("RGB") for p in pictures]
    assert {image.size for image in images} == {(128, 96)}
    centres = [image.getpixel((64, 48)) for image in images]
    first, last = centres[0], centres[-1]
    assert first[0] > 150 > 60 > first[2] and last[2] > 150 > 60 > last[0]


def test_the_manifest_alone_says_which_clips_there_are(dataset):
    pictures = clip_pictures(dataset / "manifest.parquet", dataset, "pyav", 2)
    with pytest.raises(KeyError):
        pictures("../영상/clip.mp4")


def test_no_video_is_opened_before_a_picture_is_asked_for(dataset):
    (dataset / "영상" / "clip.mp4").unlink()
    clip_pictures(dataset / "manifest.parquet", dataset, "pyav", 2)
