"""A clip as pixels: three ways to read its frames, to the same bits.

*packets*: PyAV, by the times of the packets, jumping to the frames; right where they tell.
*whole*: PyAV decodes the file from its start; what it gives is what a player shows, by definition.
*decord*: by decord, for the one kind of file on which it was proven.

While a clip is vetted (``vetting``) the others are compared with *whole*, and the manifest keeps
the way that a clip is read.
"""

from __future__ import annotations

import importlib.util
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siglip_study.base.errors import ClipError, StudyError
from siglip_study.data.bitstream import starts_anew
from siglip_study.data.clips import ClipFile, frame_indices
from siglip_study.data.probing import (
    ClipInfo,
    codec_of,
    damage_told,
    end_of,
    open_clip,
    probe_container,
    video_stream,
)
from siglip_study.data.stills import is_still, read_still


def read_frames(
    clip: ClipFile, n_frames: int, per_second: float | None = None
) -> NDArray[np.uint8]:
    """``n_frames`` frames, uniform in time, as a player shows them: uint8 RGB ``[F, H, W, 3]``.

    With ``per_second`` only so many differ (:func:`~siglip_study.data.clips.frame_indices`).
    Several threads may read at once.

    Raises:
        ClipError: the clip cannot be used, and why.
    """
    if is_still(clip.path):
        return read_still(clip.path, n_frames)
    with open_clip(clip.path) as container:
        info = probe_container(container)
        if clip.reading == "whole" or (
            clip.reading is None and (info.trimmed or not info.each_shows)
        ):
            return _read_whole(clip, info, n_frames, per_second)
        start_s, duration_s = clip.within(info.duration_s)
        chosen = frame_indices(info.pts, n_frames, duration_s, start_s, per_second)
        wanted = [int(i) for i in chosen]
        if clip.reading == "decord":
            return _pick_with_decord(clip.path, info, wanted)
        return pick(container, clip.path, info, wanted)


def _same_size(frames: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    if len({frame.shape for frame in frames}) != 1:
        raise ClipError("unreadable: the frame size changes within the clip")
    return np.stack(frames)


# ---- Whole: what a player shows, told by decoding.


def play(path: Path, alive: Callable[[], None] = lambda: None) -> Iterator[Any]:
    """Decoded frames that a player shows, in its order, from the file's start.

    What cannot be decoded before the first keyframe is left out: such a file was cut from another
    without encoding it. ``alive`` is called again and again.

    Raises:
        ClipError: a frame is damaged.
    """
    with damage_told(), open_clip(path) as container:
        stream = video_stream(container)
        codec, extradata = codec_of(stream), stream.codec_context.extradata
        # Decoders show grey until a keyframe; these two know by themselves where they can start.
        fed, begun = codec in ("h264", "hevc"), codec != "h264"
        for number, packet in enumerate(container.demux(stream)):
            alive()
            fed |= packet.is_keyframe
            if not fed and packet.size:
                continue
            if number == 0:
                begun |= starts_anew(codec, extradata, memoryview(packet))
            for frame in packet.decode():
                # Of H.264 come leading frames too, whose references were cut off.
                begun |= frame.key_frame
                if begun and frame.is_corrupt:
                    raise ClipError("unreadable: damaged (a frame's data are incomplete)")
                if begun:
                    yield frame


@dataclass(frozen=True, eq=False)
class Timeline:
    """Which decoded frames are shown and when: ``pts`` in seconds after the first, ascending.

    ``places`` are their positions among all frames that :func:`play` gives: of frames at one time
    a player leaves only the last to be seen.
    """

    pts: NDArray[np.float64] = field(repr=False)
    duration_s: float
    places: NDArray[np.int64] = field(repr=False)


#: A jump in time of more is a new recording, in the containers that join them (as in ffplay).
_LONGEST_STEP_S = {"mpegts": 10, "mpeg": 10}


def timeline(info: ClipInfo, stamps: list[tuple[int | None, int | None, int]]) -> Timeline:
    """From (presentation tick, decoding tick, duration) of decoded frames, in order.

    Frames are shown in the order in which they are decoded. Presentation times that run backwards
    more often than decoding times are not believed (AVI's are guesses). A step backwards, or of
    hours, counts one frame: files were joined there. A missing time counts one frame too.

    Raises:
        ClipError: there is no frame.
    """
    if not stamps:
        raise ClipError("unreadable: no frame can be decoded")
    columns = list(zip(*stamps, strict=True))
    chosen = min((0, 1), key=lambda which: _faults(columns[which]))
    ticks, longest = columns[chosen], _LONGEST_STEP_S.get(info.container, 3600)
    now, times = Fraction(0), [Fraction(0)]
    for before, after in pairwise(ticks):
        step = Fraction(-1)
        if before is not None and after is not None:
            step = (after - before) * info.time_base
        now += step if 0 <= step <= longest else info.frame_s
        times.append(now)
    seen = [i for i, time in enumerate(times) if i + 1 == len(times) or times[i + 1] > time]
    pts = np.array([float(times[i] - times[seen[0]]) for i in seen])
    last = float((stamps[-1][2] or 0) * info.time_base)
    return Timeline(pts, end_of(pts, last, float(info.frame_s)), np.array(seen))


def _faults(ticks: Collection[int | None]) -> int:
    """Times that are absent, and steps backwards."""
    there = [tick for tick in ticks if tick is not None]
    return len(ticks) - len(there) + sum(b < a for a, b in pairwise(there))


def _read_whole(
    clip: ClipFile, info: ClipInfo, n_frames: int, per_second: float | None
) -> NDArray[np.uint8]:
    # Which frames are wanted is known when all have been decoded; most files have an even rate, and
    # a good guess saves decoding them again.
    likely, stamps = _even(clip, info, n_frames, per_second), []
    frames: dict[int, NDArray[np.uint8]] = {}
    for i, frame in enumerate(play(clip.path)):
        stamps.append((frame.pts, frame.dts, frame.duration))
        if i in likely:
            frames[i] = info.shown(frame)
    line = timeline(info, stamps)
    start_s, duration_s = clip.within(line.duration_s)
    chosen = frame_indices(line.pts, n_frames, duration_s, start_s, per_second)
    wanted = line.places[chosen].tolist()
    if not frames.keys() >= set(wanted):
        for i, frame in enumerate(play(clip.path)):
            if i in wanted:
                frames[i] = info.shown(frame)
            if i >= wanted[-1]:
                break
    return _same_size([frames[i] for i in wanted])


def _even(clip: ClipFile, info: ClipInfo, n_frames: int, per_second: float | None) -> set[int]:
    """The frames that would be wanted if every packet showed one, at an even rate."""
    if not info.n_frames or not info.frame_s:
        return set()
    times = np.arange(info.n_frames) * float(info.frame_s)
    try:
        start_s, duration_s = clip.within(info.n_frames * float(info.frame_s))
    except ClipError:  # decoding tells
        return set()
    return set(frame_indices(times, n_frames, duration_s, start_s, per_second).tolist())


# ---- By the packets: some frames of a clip without decoding most of the others, to the same bits.


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


def pick(container: Any, path: Path, info: ClipInfo, wanted: list[int]) -> NDArray[np.uint8]:
    """Frames of an open clip whose packets tell, by their numbers, in any order, upright."""
    targets = sorted({info.ticks[i] for i in wanted})
    with damage_told():
        found = selective_decode(container, video_stream(container), info, targets)
        if len(found) < len(targets):
            found = _decode_forward(path, info, targets)
        frames = {tick: info.shown(frame) for tick, frame in found.items()}
    return _same_size([frames[info.ticks[i]] for i in wanted])


def _decode_forward(path: Path, info: ClipInfo, targets: list[int]) -> dict[int, Any]:
    """Every frame from the clip's start on, until the last target."""
    found: dict[int, Any] = {}
    for frame in play(path):
        if frame.pts in targets:
            found[frame.pts] = frame
        if frame.pts is not None and frame.pts >= targets[-1]:
            break
    missing = next((target for target in targets if target not in found), None)
    if missing is not None:
        at = float((missing - info.ticks[0]) * info.time_base)
        raise ClipError(f"unreadable: the frame at {at:.3f} s cannot be decoded")
    return found


# ---- decord.


def require_decoder(name: str) -> None:
    """StudyError where ``data.decoder`` names none, or one that is not installed."""
    if name not in ("pyav", "decord"):
        raise StudyError(f"data.decoder is '{name}'; expected one of decord, pyav.")
    if name == "decord" and importlib.util.find_spec("decord") is None:
        raise StudyError(
            "data.decoder is 'decord', which is not installed (it has no wheel for this "
            "platform); expected decord to be installed or data.decoder: pyav."
        )


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
