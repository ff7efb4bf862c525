from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.data import decoding
from siglip_study.data.decoding import Decoder, check_every_frame, frame_indices, frame_times
from siglip_study.data.probing import ClipError, probe_clip

# Those before "mirrored" are read by decord under its name.
KINDS = ["plain", "b_frames", "vfr", "vfr_b", "one", "odd"]
KINDS += ["clockwise", "half_turn", "counter_clockwise"]
KINDS += ["mirrored", "narrow", "ten_bit", "trimmed", "trimmed_b"]


def numbers(frames: np.ndarray) -> list[int]:
    """Which frames of the clip these are: their grey level over 8, read far from the corners."""
    height, width = frames.shape[1:3]
    middle = frames[:, height // 2, width // 2].astype(float).mean(axis=-1)
    return np.round(middle / 8).astype(int).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_both_decoders_give_the_same_frames(clips, kind):
    for n in (1, 4, 8, 40):
        ours = Decoder("decord").read(clips[kind], n)
        theirs = Decoder("pyav").read(clips[kind], n)
        assert ours.dtype == np.uint8 and ours.shape[0] == n and ours.shape[3] == 3
        assert np.array_equal(ours, theirs)


def read(path: Path, n: int) -> np.ndarray:
    return Decoder("pyav").read(path, n)


@pytest.mark.parametrize(
    ("kind", "n", "expected"),
    [
        ("plain", 3, [5, 15, 25]),
        ("b_frames", 3, [5, 15, 25]),
        # Frame i < 15 at i/60 s, then 14/60 + (i − 14)/10 s; the last one ends 1/30 s (as muxed)
        # after its start: 1.7667 s in all, so middles at .4417 and 1.325 s.
        ("vfr", 2, [16, 24]),
        # An edit list leaves the first ones out.
        ("trimmed", 27, list(range(3, 30))),
        ("trimmed_b", 26, list(range(4, 30))),
        ("one", 5, [0] * 5),
    ],
)
def test_frames_are_those_of_their_times(clips, kind, n, expected):
    assert numbers(read(clips[kind], n)) == expected


@pytest.mark.parametrize(
    ("kind", "corner"),
    [
        ("plain", (0, 0)),
        ("clockwise", (0, -1)),
        ("half_turn", (-1, -1)),
        ("counter_clockwise", (-1, 0)),
        ("mirrored", (0, -1)),
    ],
)
def test_frames_are_upright(clips, kind, corner):
    frame, info = read(clips[kind], 1)[0], probe_clip(clips[kind])
    turned = kind in ("clockwise", "counter_clockwise")
    assert frame.shape[:2] == ((128, 96) if turned else (96, 128)) == (info.height, info.width)
    for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert (frame[place].min() > 230) == (place == corner)


@pytest.mark.parametrize("name", ["decord", "pyav"])
def test_broken_files_are_refused(broken, tmp_path, name):
    found = [v for k, v in broken.items() if k not in ("zeroed", "scribbled")]
    for path, kind in [*found, (tmp_path / "absent.mp4", "unreadable")]:
        with pytest.raises(ClipError, match=f"^{kind}: "):
            Decoder(name).read(path, 8)


def test_probe_tells_what_a_player_shows(clips):
    plain, vfr, one, trimmed = (probe_clip(clips[k]) for k in ("plain", "vfr", "one", "trimmed"))
    assert (plain.n_frames, plain.width, plain.height) == (30, 128, 96)
    assert plain.duration_s == pytest.approx(1.0) and plain.fps == pytest.approx(30.0)
    assert vfr.pts[:3] == pytest.approx([0, 1 / 60, 2 / 60])
    assert vfr.duration_s == pytest.approx(14 / 60 + 1.5 + 1 / 30, abs=1e-3)
    assert one.n_frames == 1 and one.duration_s == pytest.approx(1 / 30)
    assert (trimmed.n_frames, trimmed.pts[0]) == (27, 0)
    assert trimmed.duration_s == pytest.approx(0.9)
    odd = [kind for kind in KINDS if not probe_clip(clips[kind]).is_plain]
    assert odd == KINDS[KINDS.index("mirrored") :]


def test_every_kind_of_damage_is_found(broken):
    for name, (path, kind) in broken.items():
        with pytest.raises(ClipError) as caught:
            check_every_frame(path)
        assert str(caught.value).startswith(f"{kind}: "), (name, str(caught.value))


def test_unknown_decoder_is_named():
    with pytest.raises(StudyError, match=r"data\.decoder is 'decor'; expected one of decord, pyav"):
        Decoder("decor")


def test_absent_decord_says_what_to_do(monkeypatch):
    monkeypatch.setattr(decoding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"not installed.*decoder: pyav"):
        Decoder("decord")


# ---- Which frames are looked at.


def test_times_are_the_middles_of_equal_parts():
    assert frame_times(8.0, 4).tolist() == [1.0, 3.0, 5.0, 7.0]
    assert frame_times(3.0, 1).tolist() == [1.5]


@pytest.mark.parametrize(
    ("pts", "n", "duration_s", "expected"),
    [
        (np.arange(240) / 30, 8, 8.0, list(range(15, 240, 30))),  # a constant rate
        # 100 frames in the first second, then one a second: the middles are .5, 1.5, 2.5, 3.5 s.
        ([*np.arange(100) / 100, 1.0, 2.0, 3.0], 4, 4.0, [50, 100, 101, 102]),
        # A frame that begins at the time is on screen, whatever .1 + .2 comes to.
        ([0.0, 0.1, 0.2, 0.1 + 0.2, 0.4, 0.5], 1, 0.6, [3]),
        ([0.0, 1.0], 4, 2.0, [0, 0, 1, 1]),  # few frames are given again
        ([0.0], 8, 0.0, [0] * 8),
        ([0.0, 1.0], 4, 10.0, [1, 1, 1, 1]),  # a long last frame counts with its duration
    ],
)
def test_frames_are_uniform_in_time(pts, n, duration_s, expected):
    assert frame_indices(pts, n, duration_s).tolist() == expected


@pytest.mark.parametrize("pts", [[], [0.0, 0.0], [0.5, 1.0], [0.0, 2.0, 1.0]])
def test_impossible_timestamps_are_refused(pts):
    with pytest.raises(ValueError, match="must ascend strictly from 0"):
        frame_indices(pts, 2, 3.0)


@pytest.mark.parametrize(("duration", "n"), [(1.0, 0), (-1.0, 2), (float("nan"), 2)])
def test_impossible_requests_are_refused(duration, n):
    with pytest.raises(ValueError, match="expected n >= 1"):
        frame_times(duration, n)
