from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.data import decoding, sample_frames
from siglip_study.data.bitstream import is_hidden
from siglip_study.data.clips import ClipFile, frame_indices, frame_times
from siglip_study.data.decoding import read_frames, require_decoder, timeline
from siglip_study.data.probing import CONTAINERS, ClipError, probe_clip
from siglip_study.data.vetting import vet

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
        ours = sample_frames(clips[kind], n, "decord")
        theirs = sample_frames(clips[kind], n)
        assert ours.dtype == np.uint8 and ours.shape[0] == n and ours.shape[3] == 3
        assert np.array_equal(ours, theirs)


def read(path: Path, n: int) -> np.ndarray:
    return read_frames(ClipFile(path), n)


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
            sample_frames(path, 8, name)


def test_probe_tells_what_a_player_shows(clips):
    plain, vfr, one, trimmed = (probe_clip(clips[k]) for k in ("plain", "vfr", "one", "trimmed"))
    assert (plain.n_frames, plain.width, plain.height) == (30, 128, 96)
    assert plain.duration_s == pytest.approx(1.0) and plain.fps == pytest.approx(30.0)
    assert vfr.pts[:3] == pytest.approx([0, 1 / 60, 2 / 60])
    assert vfr.duration_s == pytest.approx(14 / 60 + 1.5 + 1 / 30, abs=1e-3)
    assert one.n_frames == 1 and one.duration_s == pytest.approx(1 / 30)
    assert (trimmed.n_frames, trimmed.pts[0]) == (27, 0)
    assert trimmed.duration_s == pytest.approx(0.9)
    odd = [kind for kind in KINDS if not probe_clip(clips[kind]).suits_decord]
    assert odd == KINDS[KINDS.index("mirrored") :]
    assert probe_clip(clips["trimmed"]).trimmed


def test_every_kind_of_damage_is_found(broken):
    for name, (path, kind) in broken.items():
        (found,) = vet(path, [(None, None)], "pyav", (8,))
        assert found["reason"].startswith(f"{kind}: "), (name, found)


def test_unknown_decoder_is_named():
    with pytest.raises(StudyError, match=r"data\.decoder is 'decor'; expected one of decord, pyav"):
        require_decoder("decor")


def test_absent_decord_says_what_to_do(monkeypatch):
    monkeypatch.setattr(decoding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"not installed.*decoder: pyav"):
        require_decoder("decord")


def test_what_cannot_be_opened_says_what_can(broken):
    with pytest.raises(ClipError, match=r"expected one of MP4.*Matroska.*AVI") as caught:
        probe_clip(broken["text"][0])
    assert all(name in str(caught.value) for name in CONTAINERS.values())


@pytest.mark.parametrize(
    ("codec", "packet", "hidden"),
    [
        ("vp8", [0b10001, 0], False),  # show_frame is the fifth bit (RFC 6386 §9.1)
        ("vp8", [0b00001, 0], True),
        ("vp9", [0b10000110, 0], False),  # marker 10, profile 0, no repeat, inter, shown
        ("vp9", [0b10000100, 0], True),
        ("vp9", [0b10001000, 0], False),  # a frame is shown again
        ("vp9", [0b10000100, 0b11000001], False),  # a superframe's index ends it
        ("vp9", [0b10110011, 0], False),  # profile 3 has a bit more
        ("vp9", [0b10110010, 0], True),
        ("h264", [0, 0], False),
        ("vp8", [], False),
    ],
)
def test_hidden_frames_are_known_by_their_headers(codec, packet, hidden):
    assert is_hidden(codec, bytes(packet)) is hidden


# ---- When decoded frames are shown. Times are in ticks of a thousandth, a frame lasts 100.


@pytest.mark.parametrize(
    ("pts", "dts", "seconds", "places"),
    [
        ([0, 100, 200], [0, 100, 200], [0, 0.1, 0.2], [0, 1, 2]),
        ([-50, 50, 150], [0, 0, 0], [0, 0.1, 0.2], [0, 1, 2]),  # they count from the first
        ([0, 100, 100, 200], [0, 1, 2, 3], [0, 0.1, 0.2], [0, 2, 3]),  # the second is seen
        ([0, None, 250], [None] * 3, [0, 0.1, 0.2], [0, 1, 2]),  # a missing time is a frame
        ([None] * 3, [0, 100, 300], [0, 0.1, 0.3], [0, 1, 2]),  # times of decoding will do
        ([0, 300, 100, 200], [0, 100, 200, 300], [0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),  # AVI
        ([5000, 5100, 0, 100], [0, 1, 2, 0], [0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),  # joined
        ([0, 100, 7_200_000], [0] * 3, [0, 0.1, 0.2], [0, 1, 2]),  # joined, hours apart
        ([0, 100, 9_000], [0] * 3, [0, 0.1, 9.0], [0, 1, 2]),  # a still picture
    ],
)
def test_times_are_those_of_a_player(clips, pts, dts, seconds, places):
    info = replace(probe_clip(clips["plain"]), time_base=Fraction(1, 1000), frame_s=Fraction(1, 10))
    line = timeline(info, [(p, d, 40) for p, d in zip(pts, dts, strict=True)])
    assert line.pts == pytest.approx(seconds) and line.places.tolist() == places
    assert line.duration_s == pytest.approx(seconds[-1] + 0.04)


def test_a_clip_without_a_frame_is_refused(clips):
    with pytest.raises(ClipError, match="no frame can be decoded"):
        timeline(probe_clip(clips["plain"]), [])


# ---- Segments.


@pytest.mark.parametrize("reading", ["packets", "whole", "decord"])
@pytest.mark.parametrize(
    ("start_s", "end_s", "n", "expected"),
    [
        (0.5, 1.0, 3, [17, 22, 27]),  # of 30 frames a second
        (None, 0.2, 2, [1, 4]),
        (0.8, None, 2, [25, 28]),
        (0.8, 1.3, 2, [25, 28]),  # an end behind the file's is the file's
        (0.51, 0.52, 2, [15, 15]),
    ],
)
def test_frames_of_a_segment(clips, reading, start_s, end_s, n, expected):
    clip = ClipFile(clips["plain"], start_s, end_s, reading)
    assert numbers(read_frames(clip, n)) == expected


@pytest.mark.parametrize(("start_s", "end_s"), [(1.0, None), (2.0, 3.0), (0.5, 0.5), (-1.0, 0.5)])
def test_a_segment_outside_its_file_is_refused(clips, start_s, end_s):
    with pytest.raises(ClipError, match=r"^outside: the segment is .* of a file of 1 s"):
        read_frames(ClipFile(clips["plain"], start_s, end_s), 2)


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


@pytest.mark.parametrize(
    ("per_second", "expected"),
    [
        (1, [5, 5, 15, 15, 25, 25]),  # 3 looks in 3 s, each given twice
        (100, [2, 7, 12, 17, 22, 27]),  # no more than there is room for
        (0.1, [15] * 6),  # one at least
        (4 / 3, [3, 3, 11, 18, 18, 26]),
    ],
)
def test_a_clip_is_looked_at_so_often_a_second(per_second, expected):
    pts = np.arange(30) / 10
    assert frame_indices(pts, 6, 3.0, per_second=per_second).tolist() == expected


@pytest.mark.parametrize("pts", [[], [0.0, 0.0], [0.5, 1.0], [0.0, 2.0, 1.0]])
def test_impossible_timestamps_are_refused(pts):
    with pytest.raises(ValueError, match="must ascend strictly from 0"):
        frame_indices(pts, 2, 3.0)


@pytest.mark.parametrize(("duration", "n"), [(1.0, 0), (-1.0, 2), (float("nan"), 2)])
def test_impossible_requests_are_refused(duration, n):
    with pytest.raises(ValueError, match="expected n >= 1"):
        frame_times(duration, n)
