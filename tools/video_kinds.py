"""Kinds of video files with known frames: containers × codecs × what makes them hard.

Every frame carries its number, colours and which way is up, in blocks that survive compression.
A kind says what a player shows of it, from how it was made and not from any decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

#: Blocks of a frame: three rows of four. The first row is these colours, the others eight bits.
COLOURS = np.array([(220, 40, 40), (40, 180, 60), (50, 60, 220), (235, 235, 235)], np.uint8)
_BITS, _ROWS, _COLUMNS = 8, 3, 4
RATE = 12
FRAMES = 30


# ---- A frame that says which it is.


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """The frame of this number in [0, 256): ``[height, width, 3]``."""
    blocks = np.zeros((_ROWS, _COLUMNS, 3), np.uint8)
    blocks[0] = COLOURS
    bits = [16 + 219 * (number >> bit & 1) for bit in range(_BITS)]
    blocks[1:] = np.array(bits, np.uint8).reshape(_ROWS - 1, _COLUMNS, 1)
    rows = np.arange(height) * _ROWS // height
    columns = np.arange(width) * _COLUMNS // width
    return blocks[rows][:, columns]


@dataclass(frozen=True)
class Seen:
    """What is read off a frame: its number, and the largest error of its colours (of 255).

    A frame that is turned, mirrored or garbled has colours far off.
    """

    number: int
    colour_error: float


def read_picture(frame: NDArray[np.uint8]) -> Seen:
    """The number and the colours of a frame ``[h, w, 3]`` of any size, from the blocks' middles."""
    height, width = frame.shape[:2]
    blocks = np.zeros((_ROWS, _COLUMNS, 3))
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            top, left = (
                (4 * row + 1) * height // (4 * _ROWS),
                (4 * column + 1) * width // (4 * _COLUMNS),
            )
            bottom, right = top + height // (2 * _ROWS), left + width // (2 * _COLUMNS)
            blocks[row, column] = np.median(frame[top:bottom, left:right], axis=(0, 1))
    bits = blocks[1:].mean(axis=-1).ravel() > 128
    number = int(sum(1 << i for i, bit in enumerate(bits) if bit))
    return Seen(number, float(np.abs(blocks[0] - COLOURS).max()))


# ---- Kinds.


@dataclass(frozen=True)
class Kind:
    """A kind of file. ``shown`` are (seconds, number) of the frames that a player shows."""

    name: str
    container: str  # the file's suffix
    codec: str  # FFmpeg's encoder
    trait: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    ticks: tuple[int, ...] = tuple(range(0, FRAMES * 50, 50))  # of 1/600 s
    size: tuple[int, int] = (128, 96)
    numbers: tuple[int, ...] | None = None  # of the frames shown, where not all are
    times: tuple[float, ...] | None = None  # of those, in s after the first, where others
    last_s: float = 1 / RATE  # how long the last one stays
    tolerance: float = 24.0  # of the colours: palettes and coarse codecs are worse
    aspect: Fraction = Fraction(1)
    quarters: int = 0  # turns by 90° clockwise that are asked for
    mirrored: bool = False
    muxing: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[Path, Path], None] | None = None  # what is done to the finished file
    tags: Mapping[str, int] = field(default_factory=dict)  # of the colours, by attribute
    reason: str | None = None  # why it is refused

    @property
    def shown(self) -> list[tuple[float, int]]:
        """(seconds after the first, number) of the frames that a player shows."""
        numbers = self.numbers or tuple(range(len(self.ticks)))
        times = self.times or [(self.ticks[n] - self.ticks[numbers[0]]) / 600 for n in numbers]
        return list(zip(times, numbers, strict=True))

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        return self.shown[-1][0] + self.last_s

    def stored(self, shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture as it is encoded, which the file's matrix puts upright."""
        mirrored = shown[:, ::-1] if self.mirrored else shown
        return np.ascontiguousarray(np.rot90(mirrored, self.quarters))

    def write(self, folder: Path) -> Path:
        """Encode it; a file of the kind's name in ``folder``."""
        path = folder / f"{self.name.replace(' ', '_').replace('/', '_')}{self.container}"
        before = ".mp4" if self.quarters else self.container
        raw = path.with_suffix(f".before{before}") if self.after else path
        width, height = self.size
        pictures = (picture(i % 256, width, height) for i in range(len(self.ticks)))
        _encode(self, raw, pictures)
        if self.after:
            self.after(raw, path)
            raw.unlink()
        return path


def _encode(kind: Kind, path: Path, pictures: Iterator[NDArray[np.uint8]]) -> None:
    # Codecs with a fixed rate take whole frames for ticks, others 600 a second.
    steps = {after - before for before, after in pairwise(kind.ticks)}
    step = steps.pop() if len(steps) == 1 and not kind.ticks[0] % RATE else 1
    base = Fraction(step, 600)
    with av.open(str(path), "w", options=dict(kind.muxing)) as file:
        stream = file.add_stream(kind.codec, rate=RATE if step == 1 else 1 / base)
        stream.height, stream.width = kind.stored(picture(0, *kind.size)).shape[:2]
        stream.pix_fmt = kind.pixels
        stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        if kind.aspect != 1:
            stream.codec_context.sample_aspect_ratio = kind.aspect
        for name, value in kind.tags.items():
            setattr(stream.codec_context, name, value)
        stream.options = dict(kind.options)
        for tick, shown in zip(kind.ticks, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(kind.stored(shown), format="rgb24")
            # Into the colours that the file is tagged with.
            frame = frame.reformat(
                format=kind.pixels,
                dst_colorspace=kind.tags.get("colorspace", 5),
                dst_color_range=kind.tags.get("color_range"),
                interpolation="POINT",
            )
            frame.pts, frame.time_base = int(Fraction(tick, 600) / base), base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


# ---- What is done to finished files.


def _copy(
    source: Path,
    target: Path,
    first_key: int = 0,
    first: int = 0,
    at_once: Callable[[int], bool] = lambda place: False,
) -> None:
    """Copy packets without encoding them, from a place or a keyframe on.

    Those that are ``at_once`` get the time of the one before.
    """
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        keys, before = 0, None
        for place, packet in enumerate(old.demux(video=0)):
            keys += packet.is_keyframe
            if packet.size and place >= first and keys > first_key:
                if at_once(place):
                    packet.pts = packet.dts = before
                before, packet.stream = packet.pts, stream
                new.mux(packet)


def _hide(source: Path, target: Path, place: int) -> None:
    """Clear show_frame in the header of one of VP8's frames (RFC 6386 §9.1), which others use."""
    content, data = source.read_bytes(), b""
    with av.open(str(source)) as file:
        for i, packet in enumerate(file.demux(video=0)):
            data = bytes(packet) if i == place else data
    hidden = bytes([data[0] & ~0x10]) + data[1:]
    target.write_bytes(content.replace(data, hidden, 1))


def _patch(source: Path, target: Path, atom: bytes, offset: int, data: bytes) -> None:
    content = bytearray(source.read_bytes())
    at = content.index(atom) + 4 + offset
    content[at : at + len(data)] = data
    target.write_bytes(content)


def _trim(frames: int) -> Callable[[Path, Path], None]:
    """Move the start of an MP4's edit list by so many frames."""

    def after(source: Path, target: Path) -> None:
        content = source.read_bytes()
        at = content.index(b"elst") + 4 + 12
        (start,) = struct.unpack(">i", content[at : at + 4])
        _patch(source, target, b"elst", 12, struct.pack(">i", start + frames * 1024))

    return after


def _two_edits(source: Path, target: Path) -> None:
    """An MP4's edit list of two: a second from its start, and a second from frame 18 on."""
    content = source.read_bytes()
    at = content.index(b"elst") + 4
    (start,) = struct.unpack(">i", content[at + 12 : at + 16])
    edits = b"".join(struct.pack(">IiI", 1000, start + first * 1024, 1 << 16) for first in (0, 18))
    changed = content[: at + 4] + struct.pack(">I", 2) + edits + content[at + 20 :]
    # Every box around it grows; the media lie before them all.
    for box in (b"elst", b"edts", b"trak", b"moov"):
        place = changed.rindex(box, 0, at) - 4
        (size,) = struct.unpack(">I", changed[place : place + 4])
        changed = changed[:place] + struct.pack(">I", size + 12) + changed[place + 4 :]
    target.write_bytes(changed)


def _not_coded(place: int) -> bytes:
    """A P frame of MPEG-4 that is not coded: the one before it stays (ISO 14496-2 §6.2.5).

    Bits: 01 (P), 0, 1, four of the time in twelfths, 1, 0 (not coded), stuffing.
    """
    return b"\0\0\1\xb6" + bytes([0x50 | place % RATE, 0x9F])


def _repeat(source: Path, target: Path, place: int) -> None:
    """Put a frame that is not coded in the place of the last one before a keyframe."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for i, packet in enumerate(old.demux(video=0)):
            made = av.Packet(_not_coded(place)) if i == place else packet
            made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
            made.stream = stream
            if packet.size:
                new.mux(made)


def _packed(source: Path, target: Path) -> None:
    """MPEG-4 as DivX and XviD put it into AVI: a B frame lies in the packet of the frame before it.

    In its own place lies a frame that is not coded. A text in the stream says so.
    """
    said = b"\0\0\1\xb2DivX503b1393p\0"
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        datas, base = [bytes(packet) for packet in packets], packets[0].time_base
        reordered = [b.pts < a.pts for a, b in pairwise(packets)] + [False]
        for place, (packet, data) in enumerate(zip(packets, datas, strict=True)):
            content = data + (datas[place + 1] if reordered[place] else b"")
            if place and reordered[place - 1]:
                content = _not_coded(place)
            vop = content.index(b"\0\0\1\xb6")
            made = av.Packet(content[:vop] + (b"" if place else said) + content[vop:])
            made.pts = made.dts = place
            made.time_base, made.stream = base, stream
            made.is_keyframe = packet.is_keyframe
            new.mux(made)


def _matrix(a: float, b: float, c: float, d: float) -> Callable[[Path, Path], None]:
    """An MP4's display matrix, (x, y) → (ax + cy, bx + dy) (ISO 14496-12 §8.3.2: 16.16 fixed).

    The file is written anew where it is to be another container.
    """
    fixed = [round(65536 * value) for value in (a, b, 0, c, d, 0, 0, 0)]

    def after(source: Path, target: Path) -> None:
        turned = source.with_suffix(".turned.mp4")
        _patch(source, turned, b"tkhd", 40, struct.pack(">9i", *fixed, 1 << 30))
        _copy(turned, target)
        turned.unlink()

    return after


def _joined(source: Path, target: Path) -> None:
    target.write_bytes(2 * source.read_bytes())


# ---- The kinds.

_H264 = {"g": "10", "crf": "16", "sc_threshold": "0"}
_OPEN = {**_H264, "bf": "3", "x264-params": "open-gop=1:keyint=10:min-keyint=1"}
_PLAIN = {**_H264, "bf": "0"}
_FILM, _PAL = tuple(range(0, 750, 25)), tuple(range(0, 720, 24))
_TWO_TIMES = tuple(i / RATE for i in range(2 * FRAMES))
_B = {"g": "10", "bf": "2", "qscale": "3", "flags": "+qscale"}
_NO_B = {**_B, "bf": "0"}
_VP8 = {"b": "900k", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "20", "deadline": "good"}
_AV1 = {"preset": "8", "crf": "10", "g": "10"}
#: 15 frames at 24 a second, then 15 at 6.
_UNEVEN = tuple(range(0, 15 * 25, 25)) + tuple(range(15 * 25, 15 * 25 + 15 * 100, 100))
_ODD = (131, 97)


def _hevc(*more: str, groups: str = "closed") -> dict[str, str]:
    gop = "open-gop=0:min-keyint=10" if groups == "closed" else "open-gop=1:min-keyint=1"
    rest = "keyint=10:bframes=3:b-adapt=0:crf=16:scenecut=0:pools=none:frame-threads=1"
    return {"x265-params": ":".join(["log-level=none", gop, rest, *more])}


_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
#: Frames 5, 15 and 25 come at the time of 4, 14 and 24, which nobody sees.
_TWICE = tuple((n - (n % 10 == 5)) / RATE for n in range(FRAMES) if n % 10 != 4)


def _after(first: int) -> tuple[int, ...]:
    return tuple(range(first, FRAMES))


#: Codecs as names of kinds have them, where FFmpeg's encoder is called otherwise.
_ENCODERS = {
    "h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp8": "libvpx", "vp9": "libvpx-vp9",
    "mpeg1": "mpeg1video", "mpeg2": "mpeg2video", "prores": "prores_ks", "huffyuv": "ffvhuff",
    "flv1": "flv",
}  # fmt: skip


def _kind(
    name: str, trait: str = "", options: Mapping[str, str] | None = None, **more: Any
) -> Kind:
    """A kind whose name tells its container and its codec, unless ``more`` says otherwise."""
    container, *rest = name.split()
    codec = (rest or [container])[0]
    told = {"container": f".{container}", "codec": _ENCODERS.get(codec, codec)}
    return Kind(name, trait=trait, options=options or {}, **{**told, **more})


KINDS = (
    # MP4, MOV, 3GP
    _kind("mp4 h264", "B frames", _H264),
    _kind("mp4 h264 open", "open groups", _OPEN),
    _kind("mp4 h264 vfr", "variable rate", _H264, ticks=_UNEVEN, last_s=1 / 6),
    _kind("mp4 h264 fragments", "fragmented", _H264, muxing=_FRAGMENTS),
    _kind("mp4 h264 90", "turned by 90°", _H264, quarters=1, after=_matrix(0, 1, -1, 0)),
    _kind("mp4 h264 180", "turned by 180°", _H264, quarters=2, after=_matrix(-1, 0, 0, -1)),
    _kind("mp4 h264 270", "turned by 270°", _H264, quarters=3, after=_matrix(0, -1, 1, 0)),
    _kind("mp4 h264 mirror", "mirrored", _H264, mirrored=True, after=_matrix(-1, 0, 0, 1)),
    _kind(
        "mp4 h264 45",
        "turned by 45°",
        _H264,
        after=_matrix(0.7071, 0.7071, -0.7071, 0.7071),
        reason="90 degrees",
    ),
    _kind("mp4 h264 edit", "edit list trims", _H264, after=_trim(4), numbers=_after(4)),
    _kind(
        "mp4 h264 edits",
        "edit list joins two parts",
        _PLAIN,
        after=_two_edits,
        numbers=(*range(12), *range(18, 30)),
        times=tuple(i / RATE for i in range(24)),
    ),
    _kind("mp4 h264 late", "starts at 5 s", _H264, ticks=tuple(range(3000, 4500, 50))),
    _kind(
        "mp4 h264 cut",
        "cut inside a group",
        _PLAIN,
        after=partial(_copy, first=5),
        numbers=_after(10),
    ),
    _kind(
        "mp4 h264 cut open",
        "cut at an open group",
        _OPEN,
        after=partial(_copy, first_key=1),
        numbers=_after(10),
    ),
    _kind(
        "mp4 h264 refresh", "intra refresh", {"g": "8", "bf": "0", "x264-params": "intra-refresh=1"}
    ),
    _kind("mp4 h264 interlaced", "interlaced", {**_H264, "flags": "+ildct+ilme"}),
    _kind("mp4 h264 10 bit", "10 bit", _H264, pixels="yuv420p10le"),
    _kind("mp4 h264 444", "4:4:4, odd size", _H264, pixels="yuv444p", size=_ODD),
    _kind("mp4 h264 full", "full range", _H264, pixels="yuvj420p", tags={"color_range": 2}),
    _kind("mp4 h264 709", "BT.709", _H264, tags={"colorspace": 1}),
    _kind("mp4 h264 wide", "pixels 2:1", _H264, aspect=Fraction(2)),
    _kind("mp4 hevc", "closed groups", _hevc()),
    _kind("mp4 hevc open", "open groups", _hevc(groups="open")),
    _kind("mp4 hevc 10 bit", "10 bit", _hevc(), pixels="yuv420p10le"),
    _kind("mp4 av1", "", _AV1),
    _kind("mp4 mpeg4", "B frames", _B),
    _kind(
        "mp4 mpeg4 repeat",
        "a frame not coded",
        _NO_B,
        after=partial(_repeat, place=9),
        numbers=tuple(n for n in range(FRAMES) if n != 9),
    ),
    _kind("mp4 mpeg2", "B frames", _B),
    _kind("mov prores", "10 bit", pixels="yuv422p10le"),
    _kind("mov mjpeg", "full range", {"qscale": "2", "flags": "+qscale"}, pixels="yuvj420p"),
    _kind(
        "mov h264 negative", "negative offsets", _H264, muxing={"movflags": "negative_cts_offsets"}
    ),
    _kind("3gp h263", "pixels 12:11", {"qscale": "3", "flags": "+qscale"}, aspect=Fraction(12, 11)),
    # Matroska, WebM
    _kind("mkv h264", "B frames", _H264),
    _kind("mkv h264 90", "turned by 90°", _H264, quarters=1, after=_matrix(0, 1, -1, 0)),
    _kind(
        "mkv h264 twice",
        "two frames at a time",
        _PLAIN,
        after=partial(_copy, at_once=lambda place: place % 10 == 5),
        numbers=tuple(n for n in range(30) if n % 10 != 4),
        times=_TWICE,
    ),
    _kind("mkv h264 vfr", "variable rate", _H264, ticks=_UNEVEN),
    _kind("mkv hevc open", "open groups", _hevc(groups="open")),
    _kind(
        "mkv hevc cut",
        "cut at an open group",
        _hevc(groups="open"),
        after=partial(_copy, first_key=1),
        numbers=_after(10),
    ),
    _kind("mkv mpeg4", "B frames", _B),
    _kind("mkv mpeg2 interlaced", "interlaced", {**_B, "flags": "+ildct+ilme+qscale"}),
    _kind("mkv ffv1", "lossless, odd size", pixels="yuv444p", size=_ODD),
    _kind("webm vp8", "", _VP8),
    _kind(
        "webm vp8 hidden",
        "a hidden frame",
        _VP8,
        after=partial(_hide, place=7),
        numbers=tuple(n for n in range(FRAMES) if n != 7),
    ),
    _kind("webm vp9", "odd size", {**_VP8, "cpu-used": "4"}, size=_ODD),
    _kind("webm av1 10 bit", "10 bit", _AV1, pixels="yuv420p10le"),
    _kind("webm av1", "", _AV1),
    # AVI
    _kind("avi h264", "B frames", _H264),
    _kind("avi mpeg4", "B frames", _B),
    _kind(
        "avi mpeg4 packed", "packed B frames", {**_B, "bf": "1", "b_strategy": "0"}, after=_packed
    ),
    _kind("avi msmpeg4", "", {"qscale": "3", "flags": "+qscale"}),
    _kind("avi mjpeg", "full range", {"qscale": "2", "flags": "+qscale"}, pixels="yuvj420p"),
    _kind("avi huffyuv", "lossless"),
    # MPEG-TS and MPEG-PS
    _kind("ts h264", "B frames", _H264),
    _kind(
        "ts h264 cut",
        "cut inside a group",
        _H264,
        after=partial(_copy, first=5),
        numbers=_after(10),
    ),
    _kind("ts h264 joined", "two files joined", _PLAIN, after=_joined, reason="damaged"),
    _kind("ts hevc", "open groups", _hevc(groups="open")),
    _kind("ts mpeg2", "B frames", _B),
    _kind("mpg mpeg2", "B frames", _B),
    _kind("mpg mpeg1", "B frames", _B, ticks=_FILM, last_s=1 / 24),
    _kind(
        "mpg joined",
        "two files joined",
        _NO_B,
        after=_joined,
        numbers=2 * tuple(range(FRAMES)),
        times=_TWO_TIMES,
        codec="mpeg2video",
    ),
    # Others
    _kind("flv h264", "B frames", _H264),
    _kind("flv flv1", "", {"qscale": "3", "flags": "+qscale"}),
    _kind("wmv wmv2", "", {"qscale": "3", "flags": "+qscale"}),
    _kind("ogg vp8", "", _VP8, container=".ogv"),
    _kind("mxf mpeg2", "B frames", _B, ticks=_PAL, last_s=1 / 25),
    _kind("rm rv10", "", {"qscale": "3", "flags": "+qscale"}),
    _kind("gif", "palette", pixels="rgb8", tolerance=48),
    _kind("raw h264", "no container", _H264, reason="expected one of", container=".h264"),
    _kind("nut mpeg4", "", _B, reason="expected one of"),
)
