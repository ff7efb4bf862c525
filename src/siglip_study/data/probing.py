"""What a video file holds, read from its packets: timestamps, size, orientation, damage.

Both decoders share this, so that they agree on which frames exist and how they are turned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from siglip_study.base.errors import ClipError

# ---- Where H.264 and HEVC can be decoded from, read from a packet's units.
#
# A container marks as keyframes also recovery points (ITU-T H.264 §D.2.8), such as those of
# periodic intra refresh: a decoder that starts there shows grey until the picture is built up.

# Types of slices, and of those among them that refresh at once: H.264 table 7-1 and
# HEVC table 7-1, where 16-21 are BLA, IDR and CRA. What follows those in time is whole.
_SLICES = {"h264": (range(1, 6), range(5, 6)), "hevc": (range(32), range(16, 22))}
_LENGTH_AT = {"h264": 4, "hevc": 21}  # of avcC and hvcC, ISO 14496-15 §5.3.3.1 and §8.3.3.1


def starts_anew(codec: str, extradata: bytes | None, packet: memoryview | bytes) -> bool:
    """Whether decoding may start at a keyframe's packet, as it stands in the file.

    ``codec`` is FFmpeg's name; one that is neither "h264" nor "hevc" has no such recovery points.
    ``extradata`` is the stream's, which says how units are parted.
    """
    if codec not in _SLICES:
        return True
    slices, refreshes = _SLICES[codec]
    for head in _unit_heads(codec, extradata or b"", packet):
        kind = head & 0x1F if codec == "h264" else head >> 1 & 0x3F
        if kind in slices:
            return kind in refreshes
    return False


def _unit_heads(codec: str, extradata: bytes, packet: memoryview | bytes) -> Iterator[int]:
    """First byte of each unit, which lie behind their lengths (MP4) or start codes (Annex B)."""
    at = _LENGTH_AT[codec]
    if len(extradata) > at and extradata[0] == 1:
        width, place = (extradata[at] & 3) + 1, 0
        while place + width < len(packet):
            yield packet[place + width]
            place += width + int.from_bytes(packet[place : place + width], "big")
        return
    data = bytes(packet)
    place = data.find(b"\0\0\1")
    while place >= 0 and place + 3 < len(data):
        yield data[place + 3]
        place = data.find(b"\0\0\1", place + 3)


# Playlists (HLS, DASH, concat) can name other files and hosts; a clip is one container file.
_SAFE = {
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpegts,mpeg",
    "protocol_whitelist": "file",
}
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
    """A clip as a player shows it.

    Frames that an edit list trims are not counted; times start at the first shown frame. Width and
    height are those after rotation, in stored pixels (a non-square pixel aspect is not applied).
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
    orientation: Orientation
    trimmed: bool
    eight_bit: bool
    codec: str  # FFmpeg's name, such as "h264"
    interlaced: bool
    recovers: bool  # frames that decoding cannot start from are marked as keyframes too

    @property
    def is_plain(self) -> bool:
        """True where decord gives the right frames (see ``decoding``)."""
        exact = self.eight_bit and not self.trimmed and not self.recovers
        return exact and self.width >= 96 and self.orientation.is_rotation


def open_clip(path: Path) -> Any:
    """Open a video file with PyAV, as a local container file and nothing else.

    Raises:
        ClipError: the file is absent, empty or not a video container.
    """
    try:
        if path.stat().st_size == 0:
            raise ClipError("unreadable: the file has zero bytes")
        # Absolute: a relative name with a colon would be taken for a protocol.
        return av.open(str(path.resolve()), options=dict(_SAFE))
    except _DAMAGE as error:
        raise ClipError(f"unreadable: cannot be opened as video ({_describe(error)})") from error


def video_stream(container: Any) -> Any:
    """The first video stream that is not a cover picture, set to decode on one thread.

    Raises:
        ClipError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if not stream.codec_context.is_open:
                stream.codec_context.thread_count = 1
            return stream
    kind = "audio only" if container.streams.audio else "unreadable"
    raise ClipError(f"{kind}: the file holds no video stream")


def probe_clip(path: Path) -> ClipInfo:
    """Read a clip's packets and its first frame.

    Raises:
        ClipError: unreadable, cut short, audio only, without usable timestamps, or turned by an
            angle that is not a multiple of 90°.
    """
    with open_clip(path) as container:
        return probe_container(container)


@damage_told()
def probe_container(container: Any) -> ClipInfo:
    """:func:`probe_clip` of a container that is open, which is left at its end."""
    stream = video_stream(container)
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata
    shown: list[tuple[int, int, bool]] = []
    n_packets, first, recovers = 0, None, False
    for packet in container.demux(stream):
        if first is None:
            first = next(iter(packet.decode()), None)
        if packet.size == 0:  # the end marker
            continue
        n_packets += 1
        key = packet.is_keyframe and starts_anew(codec, extradata, memoryview(packet))
        recovers |= packet.is_keyframe and not key
        if packet.is_corrupt:
            raise ClipError(f"unreadable: cut short or damaged at packet {n_packets}")
        if packet.is_discard:
            continue
        if packet.pts is None:
            raise ClipError("unreadable: frames carry no presentation timestamps")
        shown.append((packet.pts, packet.duration or 0, key))
    expected = len(stream.index_entries)
    if n_packets < expected:
        raise ClipError(f"unreadable: cut short, {n_packets} of {expected} frames are there")
    if first is None or not shown:
        raise ClipError("unreadable: no frame can be decoded")
    return _info(stream, first, sorted(shown), len(shown) < n_packets, recovers)


def _info(
    stream: Any, first: Any, shown: list[tuple[int, int, bool]], trimmed: bool, recovers: bool
) -> ClipInfo:
    ticks = tuple(pts for pts, _, _ in shown)
    if len(set(ticks)) != len(ticks):
        raise ClipError("unreadable: two frames share one presentation timestamp")
    base = Fraction(stream.time_base)
    pts = np.array([float((tick - ticks[0]) * base) for tick in ticks])
    last = float(shown[-1][1] * base)
    if last <= 0 and len(pts) > 1:
        last = float(np.median(np.diff(pts)))
    elif last <= 0:
        rate = stream.average_rate or stream.guessed_rate
        last = float(1 / rate) if rate else 0.0
    duration = float(pts[-1]) + last
    turn = _orientation(first)
    width, height = (first.height, first.width) if turn.transpose else (first.width, first.height)
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
        orientation=turn,
        trimmed=trimmed,
        eight_bit=all(part.bits == 8 for part in first.format.components),
        codec=stream.codec_context.name,
        interlaced=first.interlaced_frame,
        recovers=recovers,
    )


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
