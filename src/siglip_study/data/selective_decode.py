"""Decoding some frames of a clip without decoding most of the others, to the same bits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import chain, groupby
from typing import Any

from siglip_study.data.probing import ClipInfo

# Codecs of which one packet holds one whole frame, where that is not interlaced.
_FRAME_A_PACKET = ("h264", "hevc")


def decode_sparingly(
    container: Any, stream: Any, info: ClipInfo, targets: list[int]
) -> dict[int, Any]:
    """PyAV's frames at these ticks, as far as they are found; others must be decoded plainly.

    Groups of pictures without a target are jumped over; a group begins with a keyframe that
    decoding can start from (see ``nal``). In H.264 and HEVC a group's decoding ends with its last
    target's packet: what the decoder holds back for reordering is drained, instead of being pushed
    out by the packets that follow. In H.264, frames that no other frame refers to
    (``nal_ref_idc`` 0, ITU-T H.264 §7.4.1: about half of what encoders write) are not decoded
    unless they are targets.

    Args:
        container: an open clip, at any position.
        stream: its video stream.
        info: what :func:`probe_clip` says of it.
        targets: ticks, ascending, each one of ``info.ticks``.
    """
    if info.trimmed:  # within an edit list seeking is not reliable
        return {}
    whole = not info.interlaced and info.codec in _FRAME_A_PACKET
    found: dict[int, Any] = {}
    starts = set(info.keyframe_ticks)

    def group_of(tick: int) -> int:
        return bisect_right(info.keyframe_ticks, tick) - 1

    for group, ticks in groupby(targets, group_of):
        if group < 0:
            return {}
        container.seek(info.keyframe_ticks[group], stream=stream)
        skip = whole and info.codec == "h264"
        packets = container.demux(stream)
        # Seeking may land behind or before its aim, on what decoding cannot start from.
        landed = next(packets, None)
        if landed is None or landed.pts not in starts:
            return {}
        landing = chain([landed], packets)
        found |= _decode_group(landing, stream, set(ticks), drain=whole, skip=skip)
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
