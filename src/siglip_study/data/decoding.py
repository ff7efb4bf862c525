"""A clip as pixels: two decoders that agree to the last bit.

decord is wrong about some clips: one whose edit list trims frames comes out shifted after a
sequential read, a mirrored one is not mirrored, more than eight bits a channel are converted
differently, some widths under 96 pixels come out scrambled, because it takes a row's padding for
channels, and one whose keyframes are recovery points is grey after a jump. What a clip is follows
from its packets (``ClipInfo.is_plain``), never from a failure, so such clips are read by PyAV under
both names and the frames do not depend on the choice.
"""

from __future__ import annotations

import importlib.util
from bisect import bisect_right
from collections.abc import Iterable
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siglip_study.base.errors import StudyError
from siglip_study.data.probing import (
    ClipError,
    ClipInfo,
    damage_told,
    open_clip,
    probe_clip,
    probe_container,
    video_stream,
)

# ---- Which frames of a clip are looked at: uniform in time, never in frame number.

# Timestamps are exact fractions stored as floats; a frame shown *at* a time must not be missed.
_TOLERANCE_S = 1e-6


def frame_times(duration_s: float, n: int) -> NDArray[np.float64]:
    """The middles of ``n`` equal parts of a clip, in seconds after its first frame: ``[n]``.

    Raises:
        ValueError: ``n`` is not positive or the duration is negative or not finite.
    """
    if n < 1 or not np.isfinite(duration_s) or duration_s < 0:
        raise ValueError(f"n={n}, duration_s={duration_s}: expected n >= 1 and a duration >= 0")
    return (np.arange(n, dtype=np.float64) + 0.5) / n * duration_s


def frame_indices(pts_s: ArrayLike, n: int, duration_s: float) -> NDArray[np.int64]:
    """The frames that are on screen at :func:`frame_times`: ``[n]`` positions in ``pts_s``.

    Each time takes the last frame that begins at or before it, by the real timestamps, so a clip
    with a variable frame rate is sampled evenly in time. ``pts_s`` holds only frames that a player
    shows (none that an edit list trims) and counts from the first of them. A clip with fewer frames
    than ``n`` gives some of them again.

    Raises:
        ValueError: ``pts_s`` is empty or does not ascend strictly from 0.
    """
    pts = np.asarray(pts_s, dtype=np.float64)
    if pts.size == 0 or pts[0] != 0 or (np.diff(pts) <= 0).any():
        raise ValueError("pts_s must not be empty and must ascend strictly from 0")
    found = np.searchsorted(pts, frame_times(duration_s, n) + _TOLERANCE_S, side="right") - 1
    return np.clip(found, 0, pts.size - 1).astype(np.int64)


# ---- Decoding some frames of a clip without decoding most of the others, to the same bits.


def selective_decode(
    container: Any, stream: Any, info: ClipInfo, targets: list[int]
) -> dict[int, Any]:
    """PyAV's frames at these ticks, as far as they are found; others must be decoded plainly.

    Groups of pictures without a target are jumped over; a group begins with a keyframe that
    decoding can start from. In H.264 and HEVC a group's decoding ends with its last target's
    packet: what the decoder holds back for reordering is drained. In H.264, frames that no other
    frame refers to (``nal_ref_idc`` 0, ITU-T H.264 §7.4.1: about half of what encoders write) are
    decoded only if they are targets.

    The container may be at any position; ``targets`` are some of ``info.ticks``, ascending.
    """
    if info.trimmed:  # within an edit list seeking is not reliable
        return {}
    # In these codecs one packet holds one whole frame.
    whole = not info.interlaced and info.codec in ("h264", "hevc")
    found: dict[int, Any] = {}
    starts = set(info.keyframe_ticks)
    for group, ticks in groupby(targets, lambda tick: bisect_right(info.keyframe_ticks, tick) - 1):
        if group < 0:
            return {}
        container.seek(info.keyframe_ticks[group], stream=stream)
        skip = whole and info.codec == "h264"
        packets = container.demux(stream)
        # Seeking may land behind or before its aim, on what decoding cannot start from.
        landed = next(packets, None)
        if landed is None or landed.pts not in starts:
            return {}
        found |= _decode_group(chain([landed], packets), stream, set(ticks), whole, skip)
    return found


def _decode_group(
    packets: Iterable[Any], stream: Any, targets: set[int], drain: bool, skip: bool
) -> dict[int, Any]:
    context, unread = stream.codec_context, set(targets)
    found: dict[int, Any] = {}
    try:
        for packet in packets:
            if skip:
                context.skip_frame = "DEFAULT" if packet.pts in targets else "NONREF"
            unread.discard(packet.pts)
            frames = packet.decode()
            if drain and not unread:
                frames += context.decode(None)
            found |= {frame.pts: frame for frame in frames if frame.pts in targets}
            if len(found) == len(targets) or (drain and not unread):
                break
    finally:
        context.skip_frame = "DEFAULT"
    return found


# ---- The two decoders.


class Decoder:
    """Reads clips on the calling thread; an instance may be used by several threads at once.

    "pyav" is FFmpeg through PyAV and reads every clip that FFmpeg can; "decord" reads plain clips
    by decord and the others by PyAV (see the module).
    """

    def __init__(self, name: str) -> None:
        """The decoder of exactly this name; StudyError where it or its library is not there."""
        if name not in ("decord", "pyav"):
            raise StudyError(f"data.decoder is '{name}'; expected one of decord, pyav.")
        if name == "decord" and importlib.util.find_spec("decord") is None:
            raise StudyError(
                "data.decoder is 'decord', which is not installed (it has no wheel for this "
                "platform); expected decord to be installed or data.decoder: pyav."
            )
        self.name = name

    def read(self, path: Path, n_frames: int) -> NDArray[np.uint8]:
        """``n_frames`` frames, uniform in time, upright: uint8 RGB ``[F, H, W, 3]``.

        Raises:
            ClipError: the clip cannot be used, and why.
        """
        with open_clip(path) as container:
            info = probe_container(container)
            wanted = [int(i) for i in frame_indices(info.pts, n_frames, info.duration_s)]
            if self.name == "decord" and info.is_plain:
                return _pick_with_decord(path, info, wanted)
            return pick(container, path, info, wanted)


def _pick_with_decord(path: Path, info: ClipInfo, wanted: list[int]) -> NDArray[np.uint8]:
    import decord

    try:
        reader = decord.VideoReader(str(path.resolve()), num_threads=1)
        if len(reader) != info.n_frames:
            raise ClipError(
                f"unreadable: decord finds {len(reader)} frames where {info.n_frames} are stored"
            )
        frames: NDArray[np.uint8] = reader.get_batch(wanted).asnumpy()
    except decord.DECORDError as error:
        line = next((s for s in reversed(str(error).splitlines()) if s.strip()), "no message")
        raise ClipError(f"unreadable: decord cannot decode it ({line[-120:]})") from error
    return frames


def pick(container: Any, path: Path, info: ClipInfo, wanted: list[int]) -> NDArray[np.uint8]:
    """Frames of an open clip by their numbers, in any order, upright."""
    targets = sorted({info.ticks[i] for i in wanted})
    with damage_told():
        found = selective_decode(container, video_stream(container), info, targets)
        if len(found) < len(targets):
            found = _decode_forward(path, info, targets)
        frames = {tick: frame.to_ndarray(format="rgb24") for tick, frame in found.items()}
    turned = [info.orientation.apply(frames[info.ticks[i]]) for i in wanted]
    if len({frame.shape for frame in turned}) != 1:
        raise ClipError("unreadable: the frame size changes within the clip")
    return np.stack(turned)


def _decode_forward(path: Path, info: ClipInfo, targets: list[int]) -> dict[int, Any]:
    """The plain way: every frame from the clip's start on, until the last target."""
    found: dict[int, Any] = {}
    with open_clip(path) as container:
        for frame in container.decode(video_stream(container)):
            if frame.pts in targets:
                found[frame.pts] = frame
            if frame.pts is not None and frame.pts >= targets[-1]:
                break
    missing = next((target for target in targets if target not in found), None)
    if missing is not None:
        at = float((missing - info.ticks[0]) * info.time_base)
        raise ClipError(f"unreadable: the frame at {at:.3f} s cannot be decoded")
    return found


def check_every_frame(path: Path) -> ClipInfo:
    """Probe a clip and decode it from end to end.

    Damage can lie between the frames that a study samples today; a decoder may then conceal it.

    Raises:
        ClipError: the clip cannot be used, and why.
    """
    info = probe_clip(path)
    with damage_told(), open_clip(path) as container:
        stream = video_stream(container)
        found = {frame.pts for frame in container.decode(stream) if not frame.is_corrupt}
    missing = len(set(info.ticks) - found)
    if missing:
        raise ClipError(f"unreadable: {missing} of {info.n_frames} frames cannot be decoded")
    return info
