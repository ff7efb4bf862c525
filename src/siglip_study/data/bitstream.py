"""What the first bits of a packet say of its frame: may decoding start there, is it ever shown."""

from __future__ import annotations

from collections.abc import Iterator

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


def is_hidden(codec: str, packet: memoryview | bytes) -> bool:
    """Whether a packet of VP8 or VP9 holds nothing but a frame that is never shown.

    Encoders hide reference frames (RFC 6386 §9.1; VP9 bitstream §6.2 and annex B). In other codecs
    a packet of a container shows a frame.
    """
    if not len(packet):
        return False
    head, last = packet[0], packet[-1]
    if codec == "vp8":
        return not head >> 4 & 1
    if codec != "vp9" or last & 0xE0 == 0xC0:  # a superframe ends with one that is shown
        return False
    at = 3 if head >> 4 & 3 != 3 else 2  # of show_existing_frame; profile 3 has one more bit
    return not head >> at & 1 and not head >> (at - 2) & 1
