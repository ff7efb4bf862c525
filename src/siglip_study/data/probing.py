"""What a video file holds, read from its packets: timestamps, size, orientation, damage.

Packets tell which frames a player shows in most files. Where they cannot (``ClipInfo.tells``), and
to prove that they do, the file is decoded from end to end (``decoding``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from siglip_study.base.errors import ClipError
from siglip_study.data.bitstream import is_hidden, starts_anew

# ---- Opening a file.

#: Containers that are read: FFmpeg's names → what they are called.
CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "MP4, MOV, 3GP",
    "matroska,webm": "Matroska, WebM",
    "avi": "AVI",
    "mpegts": "MPEG-TS",
    "mpeg": "MPEG-PS (.mpg, .vob)",
    "flv": "FLV",
    "asf": "ASF, WMV",
    "ogg": "Ogg",
    "mxf": "MXF",
    "rm": "RealMedia",
    "gif": "GIF",
}
# Playlists (HLS, DASH, concat) can name other files and hosts; a clip is one container file.
_SAFE = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
#: What PyAV raises on a damaged file.
_DAMAGE = (av.FFmpegError, OSError, ValueError)


@contextmanager
def damage_told() -> Iterator[None]:
    """What PyAV raises on a damaged file becomes a :class:`ClipError`."""
    try:
        yield
    except _DAMAGE as error:
        raise ClipError(f"unreadable: damaged ({_describe(error)})") from error


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is turned to be shown: transposed first, then mirrored."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def is_rotation(self) -> bool:
        """True where the frame is turned by a multiple of 90°, 0° included, and not mirrored."""
        return not (self.transpose ^ self.mirror_x ^ self.mirror_y)

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Stored ``[h, w, 3]`` → shown ``[H, W, 3]``."""
        turned = frame.swapaxes(0, 1) if self.transpose else frame
        turned = turned[:, ::-1] if self.mirror_x else turned
        turned = turned[::-1] if self.mirror_y else turned
        return np.ascontiguousarray(turned)


@dataclass(frozen=True, eq=False)
class ClipInfo:
    """A clip as a player shows it, as far as its packets say.

    Times count from the first frame that is shown. Frames that an edit list trims are left out.
    Width and height are those of the picture that is shown: upright, in square pixels.
    """

    duration_s: float
    fps: float
    n_frames: int
    width: int
    height: int
    pts: NDArray[np.float64] = field(repr=False)
    ticks: tuple[int, ...] = field(repr=False)  # pts in the stream's own ticks, exact
    keyframe_ticks: tuple[int, ...] = field(repr=False)  # of those that decoding can start from
    time_base: Fraction
    frame_s: Fraction  # one frame at the nominal rate; 0 where none is known
    orientation: Orientation
    stretch: Fraction  # width of a stored pixel over its height
    container: str  # FFmpeg's name, such as "mpegts"
    codec: str  # FFmpeg's name, such as "h264"
    interlaced: bool
    trimmed: bool  # an edit list leaves out frames that are stored
    #: True where the packets say which frames are shown and when
    tells: bool
    #: True where, moreover, a packet whose frame is not shown is damaged
    each_shows: bool
    #: True where decord was proven to give the right frames
    suits_decord: bool

    def shown(self, frame: Any) -> NDArray[np.uint8]:
        """A decoded frame as it is shown: RGB ``[height, width, 3]``."""
        size: dict[str, int] = {}
        if self.stretch != 1:
            size["width"] = _stretched(frame.width, self.stretch)
        return self.orientation.apply(frame.to_ndarray(format="rgb24", **size))


def open_clip(path: Path) -> Any:
    """Open a video file with PyAV, as a local container file and nothing else.

    Raises:
        ClipError: the file is absent, empty or not a video container.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ClipError(f"unreadable: cannot be opened ({_describe(error)})") from error
    if size == 0:
        raise ClipError("unreadable: the file has zero bytes")
    try:
        # Absolute: a relative name with a colon would be taken for a protocol.
        return av.open(str(path.resolve()), options=dict(_SAFE))
    except _DAMAGE as error:
        known = ", ".join(CONTAINERS.values())
        raise ClipError(
            f"unreadable: cannot be opened as video ({_describe(error)}); expected one of {known}"
        ) from error


def container_seconds(path: Path) -> float | None:
    """How long a file says it lasts, without reading its packets; None where it does not say.

    Raises:
        ClipError: the file is absent, empty or not a video container.
    """
    with open_clip(path) as container:
        return container.duration / av.time_base if container.duration else None


def video_stream(container: Any) -> Any:
    """The first video stream that is not a cover picture, set to decode on one thread.

    Raises:
        ClipError: there is none, or nothing here decodes its codec.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                raise ClipError("unreadable: a video codec that this FFmpeg does not know")
            if not stream.codec_context.is_open:
                stream.codec_context.thread_count = 1
            return stream
    kind = "audio only" if container.streams.audio else "unreadable"
    raise ClipError(f"{kind}: the file holds no video stream")


def _nothing() -> None:
    """Nobody asks whether the work goes on."""


def probe_clip(path: Path) -> ClipInfo:
    """Read a clip's packets and its first frame.

    Raises:
        ClipError: unreadable, cut short, audio only, or turned by an angle that is not a multiple
            of 90°.
    """
    with open_clip(path) as container:
        return probe_container(container)


#: Codecs in which every packet that is not hidden shows a frame. MPEG-4 and its kin repeat one by
#: a packet that codes nothing; of interlaced video a packet may be a field.
_EACH_SHOWS = frozenset(
    ("h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mjpeg", "prores", "ffv1")
)


@dataclass
class _Packets:
    """What the packets of a stream say, before it is known whether to believe it."""

    shown: list[tuple[int, int, bool]] = field(default_factory=list)  # pts, duration, a start
    complete: bool = True  # each that is shown has a time, and the first can be decoded
    trimmed: bool = False
    begun: bool = False
    recovers: bool = False  # frames that decoding cannot start from are marked as keyframes too
    count: int = 0


@damage_told()
def probe_container(container: Any, alive: Callable[[], None] = _nothing) -> ClipInfo:
    """:func:`probe_clip` of a container that is open, which is left at its end.

    ``alive`` is called again and again while packets are read.
    """
    stream = video_stream(container)
    codec, extradata = codec_of(stream), stream.codec_context.extradata
    packets, first = _Packets(), None
    for packet in container.demux(stream):
        alive()
        if first is None:
            first = next(iter(packet.decode()), None)
        if packet.size == 0:  # the end marker, or a frame that AVI repeats
            continue
        packets.count += 1
        if packet.is_corrupt and packets.begun:
            raise ClipError(f"unreadable: cut short or damaged at packet {packets.count}")
        key = packet.is_keyframe and starts_anew(codec, extradata, memoryview(packet))
        packets.recovers |= packet.is_keyframe and not key
        if is_hidden(codec, memoryview(packet)):
            continue
        packets.begun |= key
        if packet.is_discard:
            packets.trimmed = True
        elif packet.pts is None or not packets.begun:
            packets.complete = False
        else:
            packets.shown.append((packet.pts, packet.duration or 0, key))
    # Of MP4 alone is every packet in the index from the start.
    expected = len(stream.index_entries) if container.format.name.startswith("mov") else 0
    if packets.count < expected:
        raise ClipError(f"unreadable: cut short, {packets.count} of {expected} frames are there")
    if first is None:
        raise ClipError("unreadable: no frame can be decoded")
    return _info(container.format.name, stream, first, packets)


def codec_of(stream: Any) -> str:
    """FFmpeg's name of the codec, not of the library that decodes it."""
    return str(stream.codec_context.codec.canonical_name)


def _info(container: str, stream: Any, first: Any, packets: _Packets) -> ClipInfo:
    base = Fraction(stream.time_base)
    shown = sorted(packets.shown)
    ticks = tuple(pts for pts, _, _ in shown)
    # AVI has no times of its own: what its packets carry is guessed. What is shown before the
    # first packet refers to a time before the file was cut.
    tells = packets.complete and bool(ticks) and container != "avi"
    tells = tells and len(set(ticks)) == len(ticks)
    tells = tells and (packets.trimmed or ticks[0] == packets.shown[0][0])
    rate = stream.average_rate or stream.guessed_rate
    frame_s = Fraction(1 / rate) if rate else Fraction(0)
    pts = np.array([float((tick - ticks[0]) * base) for tick in ticks])
    last = float(shown[-1][1] * base) if shown else 0.0
    duration = end_of(pts, last, float(frame_s))
    turn, stretch = _orientation(first), _stretch(stream)
    width, height = _stretched(first.width, stretch), first.height
    width, height = (height, width) if turn.transpose else (width, height)
    codec = codec_of(stream)
    plain = first.format.name in ("yuv420p", "yuvj420p") and not first.interlaced_frame
    return ClipInfo(
        duration_s=duration,
        fps=len(ticks) / duration if duration > 0 else 0.0,
        n_frames=len(ticks),
        width=width,
        height=height,
        pts=pts,
        ticks=ticks,
        keyframe_ticks=tuple(pts for pts, _, key in shown if key),
        time_base=base,
        frame_s=frame_s,
        orientation=turn,
        stretch=stretch,
        container=container,
        codec=codec,
        interlaced=first.interlaced_frame,
        trimmed=packets.trimmed,
        tells=tells,
        each_shows=tells and codec in _EACH_SHOWS and not first.interlaced_frame,
        suits_decord=(
            (tells and plain and not packets.recovers and not packets.trimmed)
            and (container.startswith("mov") and codec == "h264" and stretch == 1)
            # It takes a row's padding for channels where rows are short.
            and (width >= 96 and width % 2 == height % 2 == 0 and turn.is_rotation)
        ),
    )


def end_of(pts: NDArray[np.float64], last_s: float, frame_s: float) -> float:
    """When the last of these frames ends: its own duration, else the others', else the nominal."""
    if not pts.size:
        return 0.0
    if last_s <= 0 and len(pts) > 1:
        last_s = float(np.median(np.diff(pts)))
    return float(pts[-1]) + (last_s if last_s > 0 else frame_s)


#: A pixel that is longer than this in one direction is an error of the file.
_MOST_STRETCHED = 4


def _stretch(stream: Any) -> Fraction:
    """Width of a pixel over its height: what the container says, else the codec."""
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    if not Fraction(1, _MOST_STRETCHED) <= aspect <= _MOST_STRETCHED:
        raise ClipError(
            f"unreadable: pixels are {aspect} times as wide as high; expected at most "
            f"{_MOST_STRETCHED} times either way"
        )
    return aspect


def _stretched(width: int, stretch: Fraction) -> int:
    return max(1, round(width * stretch))


def _orientation(frame: Any) -> Orientation:
    """The display matrix of ISO 14496-12 §8.3.2: (x, y) → (a·x + c·y, b·x + d·y), 16.16 fixed."""
    data = next((s for s in frame.side_data if s.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return Orientation()
    matrix = np.frombuffer(bytes(data), dtype=np.int32, count=9) / 65536
    a, b, c, d = np.round(matrix[[0, 1, 3, 4]]).astype(int).tolist()
    # Scales other than one are a request to stretch, which is not followed; angles are.
    if a and d and not b and not c:
        return Orientation(False, a < 0, d < 0)
    if b and c and not a and not d:
        return Orientation(True, c < 0, b < 0)
    raise ClipError("unreadable: turned by an angle that is not a multiple of 90 degrees")


def _describe(error: BaseException) -> str:
    """A decoder's complaint without its numbers, for use within a reason."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
