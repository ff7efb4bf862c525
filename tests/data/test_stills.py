"""Pictures as clips: upright, as often as asked, or refused in one sentence."""

import numpy as np
import pytest
from PIL import Image

from siglip_study.base.errors import ClipError
from siglip_study.data.stills import is_still, read_still

#: 2 × 3 pixels, each with a colour of its own.
PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
ORIENTATION = 0x0112


# What EXIF says was done to a picture, undone.
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, PIXELS), (3, np.rot90(PIXELS, 2)), (6, np.rot90(PIXELS, -1)), (8, np.rot90(PIXELS))],
)
def test_a_picture_is_upright_as_often_as_asked(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    found = read_still(tmp_path / "a.png", 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.stack([upright] * 3))


def test_grey_and_transparent_pictures_become_rgb(tmp_path):
    for mode in ("L", "LA", "RGBA", "P"):
        Image.new(mode, (4, 2)).save(tmp_path / "a.png")
        assert read_still(tmp_path / "a.png").shape == (1, 2, 4, 3), mode


@pytest.mark.parametrize("content", [b"", b"no picture", b"GIF89a" + bytes(20)])
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ClipError, match=r"^unreadable: cannot be opened as a picture"):
        read_still(tmp_path / "a.jpg")


def test_a_picture_that_ends_early_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        tmp_path / "a.jpg"
    )
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClipError, match="cannot be opened as a picture"):
        read_still(tmp_path / "a.jpg")


def test_pictures_are_known_by_their_names():
    assert is_still("a/b.JPG") and not is_still("a/b.mp4")
