"""Where H.264 and HEVC can be decoded from, read from a packet's units.

A container marks as keyframes also recovery points (ITU-T H.264 §D.2.8), such as those of periodic
intra refresh: a decoder that starts there shows grey until the picture has been built up.
"""

from __future__ import annotations

from collections.abc import Iterator

# Types of slices, and of those among them that refresh at once: H.264 table 7-1 and
# HEVC table 7-1, where 16-21 are BLA, IDR and CRA. What follows those in time is whole.
_SLICES = {"h264": (range(1, 6), range(5, 6)), "hevc": (range(32), range(16, 22))}
_LENGTH_AT = {"h264": 4, "hevc": 21}  # of avcC and hvcC, ISO 14496-15 §5.3.3.1 and §8.3.3.1


def starts_anew(codec: str, extradata: bytes | None, packet: memoryview | bytes) -> bool:
    """Whether decoding may start at a keyframe's packet.

    Args:
        codec: FFmpeg's name; one that is neither "h264" nor "hevc" has no such recovery points.
        extradata: the stream's, which says how units are parted.
        packet: as it stands in the file.
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
