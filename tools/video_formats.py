"""What becomes of each kind of video file, and the table of it in the docs.

Run with: ``python -m tools.video_formats docs/video-formats.md``
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from siglip_study.data.clips import ClipFile, frame_times
from siglip_study.data.decoding import read_frames
from siglip_study.data.vetting import vet
from tools.pages import write_tables
from tools.video_kinds import KINDS, Kind, read_picture

#: Numbers of frames that are sampled of each file.
COUNTS = (4, 8)
_WAYS = {"packets": "right, by packets", "whole": "right, decoded whole", "decord": "right"}
_CODECS = {
    "libx264": "H.264", "libx265": "HEVC", "libsvtav1": "AV1", "libvpx": "VP8",
    "libvpx-vp9": "VP9", "mpeg4": "MPEG-4", "mpeg2video": "MPEG-2", "mpeg1video": "MPEG-1",
    "prores_ks": "ProRes", "mjpeg": "MJPEG", "h263": "H.263", "msmpeg4": "MS-MPEG-4",
    "ffvhuff": "FFVHuff", "ffv1": "FFV1", "flv": "Sorenson H.263", "wmv2": "WMV 8",
    "rv10": "RealVideo 1", "gif": "GIF",
}  # fmt: skip


def asked_for(kind: Kind, n: int) -> list[int]:
    """Numbers of the frames that are on screen at ``n`` times, by how the file was made.

    Containers that round to a millisecond may show a frame so much later.
    """
    starts = [seconds - 0.002 for seconds, _ in kind.shown]
    return [kind.shown[bisect_right(starts, t) - 1][1] for t in frame_times(kind.duration_s, n)]


def faults(kind: Kind, clip: ClipFile, n: int) -> list[str]:
    """What is wrong with ``n`` frames of a file; nothing where each is right.

    Raises:
        ClipError: the file is refused.
    """
    frames = read_frames(clip, n)
    width, height = round(kind.size[0] * kind.aspect), kind.size[1]
    found = [] if frames.shape[1:] == (height, width, 3) else [f"frames are {frames.shape}"]
    seen = [read_picture(frame) for frame in frames]
    for asked, frame in zip(asked_for(kind, n), seen, strict=True):
        if frame.number != asked:
            found.append(f"frame {frame.number} where {asked} was asked for")
        if frame.colour_error > kind.tolerance:
            found.append(f"colours of frame {asked} are off by {frame.colour_error:.0f}")
    return found


@dataclass(frozen=True)
class Outcome:
    """How a file is read under each decoder, or why it is refused."""

    pyav: str
    decord: str
    reason: str = ""


def outcome(path: Path) -> Outcome:
    """What vetting says of a file."""
    (by_decord,) = vet(path, [(None, None)], "decord", COUNTS)
    if "reason" in by_decord:
        return Outcome("", "", by_decord["reason"])
    # What decord does not read is read by PyAV, under either name.
    way = by_decord["reading"]
    if way == "decord":
        way = vet(path, [(None, None)], "pyav", COUNTS)[0]["reading"]
    return Outcome(way, by_decord["reading"])


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Markdown: containers × codecs × what happens, by a kind's name."""
    lines = ["| file | codec | trait | `decoder: pyav` | `decoder: decord` |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        found = outcomes[kind.name]
        cells = [f"`{kind.container}`", _CODECS[kind.codec], kind.trait]
        if found.reason:
            cells += [f"refused: {found.reason}", "refused"]
        else:
            by_decord = found.decord == "decord"
            cells += [_WAYS[found.pyav], "right, by decord" if by_decord else "right, by PyAV"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(page: Path) -> None:
    """Encode every kind, look at it, and write the table into the page."""
    with TemporaryDirectory() as folder:
        outcomes = {kind.name: outcome(kind.write(Path(folder))) for kind in KINDS}
    write_tables(page, {"formats": table(outcomes)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
