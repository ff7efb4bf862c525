"""Frames of a selective decode are those of a whole decode, bit by bit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from support.clips import every_frame, picked, write_video

from siglip_study.data import decoding
from siglip_study.data.clips import ClipFile
from siglip_study.data.decoding import read_frames, selective_decode
from siglip_study.data.probing import ClipInfo, open_clip, probe_clip, video_stream

# Name → encoder and its options.
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "one group": ("libx264", {"g": "250", "bf": "3"}),
    "pyramid": ("libx264", {"g": "16", "bf": "5", "x264-params": "b-pyramid=normal:ref=4"}),
    "open groups": ("libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "groups of two": ("libx264", {"g": "2", "bf": "1"}),
    "keyframes alone": ("libx264", {"g": "1"}),
    "intra refresh": ("libx264", {"g": "8", "bf": "0", "x264-params": "intra-refresh=1"}),
    "no frame twice": ("libx264", {"g": "20", "bf": "0"}),
    "weighted": ("libx264", {"g": "30", "bf": "8", "preset": "slow"}),
    "interlaced": ("libx264", {"g": "12", "bf": "2", "flags": "+ildct+ilme"}),
    "hevc": ("libx265", {"g": "12", "x265-params": "log-level=none:bframes=4"}),
    "mpeg4": ("mpeg4", {"g": "12", "bf": "2"}),
    "vp9": ("libvpx-vp9", {"g": "12", "cpu-used": "8", "deadline": "realtime"}),
}
FRAMES, HEIGHT, WIDTH = 48, 96, 128


def write(path: Path, encoder: str, options: dict[str, str]) -> Path:
    """Drifting noise that brightens now and then, so that B frames are worth their bits."""
    base = np.random.default_rng(0).integers(0, 200, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    base = base.repeat(4, axis=0).repeat(4, axis=1)
    pictures = (
        np.roll(base, (i, 2 * i), axis=(0, 1)) + np.uint8(40 * (i // 20 % 2)) for i in range(FRAMES)
    )
    return write_video(path, pictures, range(0, 20 * FRAMES, 20), encoder, options)


@pytest.fixture(scope="module", params=list(KINDS))
def clip(request, tmp_path_factory):
    encoder, options = KINDS[request.param]
    if encoder not in av.codecs_available:
        pytest.skip(f"this PyAV has no {encoder}")
    suffix = ".webm" if "vp9" in encoder else ".mp4"
    folder = tmp_path_factory.mktemp("selective")
    return write(folder / f"{request.param}{suffix}", encoder, options)


def test_frames_are_those_of_a_whole_decode(clip):
    every = every_frame(clip)
    assert len(every) == FRAMES
    generator = np.random.default_rng(1)
    chosen = [[i] for i in range(0, FRAMES, 5)] + [[0], [FRAMES - 1], list(range(FRAMES))]
    chosen += [generator.choice(FRAMES, n, replace=False).tolist() for n in (2, 8, 8, 20)]
    for wanted in chosen:
        assert np.array_equal(picked(clip, wanted), every[wanted]), wanted


def test_it_finds_its_frames(clip):
    info = probe_clip(clip)
    targets = [info.ticks[i] for i in (3, 20, 41)]
    container = open_clip(clip)
    found = selective_decode(container, video_stream(container), info, targets)
    container.close()
    # With groups so small seeking may land behind the target: it is then decoded plainly.
    if clip.stem != "groups of two":
        assert sorted(found) == targets


def test_few_frames_are_decoded(tmp_path):
    path = write(tmp_path / "clip.mp4", "libx264", {"g": "250", "bf": "3", "sc_threshold": "0"})
    info, decoded = probe_clip(path), []
    container = open_clip(path)
    stream = video_stream(container)

    class Packet:
        """A packet that tells how many frames it was decoded to."""

        def __init__(self, packet: Any) -> None:
            self.packet, self.pts = packet, packet.pts

        def decode(self) -> list[Any]:
            frames: list[Any] = self.packet.decode()
            decoded.extend(frames)
            return frames

    counting = SimpleNamespace(
        seek=container.seek, demux=lambda of: map(Packet, container.demux(of))
    )
    found = selective_decode(counting, stream, info, [info.ticks[30]])
    assert list(found) == [info.ticks[30]]
    assert str(stream.codec_context.skip_frame).endswith("DEFAULT")
    # 31 frames precede it or are it; those that nothing refers to are left out.
    assert len(decoded) < 24
    container.close()


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_recovery_points_are_not_taken_for_starts(tmp_path, suffix):
    """A file marks them as keyframes; from there on a decoder shows grey for a while."""
    path = write(tmp_path / f"refresh{suffix}", *KINDS["intra refresh"])
    with av.open(str(path)) as file:
        marked = [packet for packet in file.demux(video=0) if packet.is_keyframe]
    info = probe_clip(path)
    assert len(marked) > 2
    assert info.keyframe_ticks == info.ticks[:1]
    assert info.tells and not info.suits_decord
    for i, frame in enumerate(every_frame(path)):
        assert np.array_equal(picked(path, [i])[0], frame)


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
@pytest.mark.parametrize("kind", ["pyramid", "hevc"])
def test_closed_groups_are_starts(tmp_path, kind, suffix):
    info = probe_clip(write(tmp_path / f"closed{suffix}", *KINDS[kind]))
    assert len(info.keyframe_ticks) >= 3
    assert info.tells


@pytest.mark.parametrize("lost", [1, 8])
def test_what_is_not_found_is_decoded_plainly(clip, monkeypatch, lost):
    expected = read_frames(ClipFile(clip), 8)

    def some(container: Any, stream: Any, info: ClipInfo, targets: list[int]) -> dict[int, Any]:
        found = selective_decode(container, stream, info, targets)
        return dict(list(found.items())[lost:])

    monkeypatch.setattr(decoding, "selective_decode", some)
    assert np.array_equal(read_frames(ClipFile(clip), 8), expected)
