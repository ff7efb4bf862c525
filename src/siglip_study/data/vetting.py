"""One file decoded from end to end: what it shows, and which way of reading it is right."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siglip_study.base.errors import ClipError
from siglip_study.data.clips import ClipFile, Reading, frame_indices
from siglip_study.data.decoding import Timeline, play, read_frames, timeline
from siglip_study.data.probing import ClipInfo, open_clip, probe_container
from siglip_study.data.stills import is_still, read_still

#: A decoder that says nothing for so long hangs. The whole time that a clip may take has no limit:
#: it grows with the clip.
NO_PROGRESS_S = 120.0
#: Reading some frames once may take this many times as long as decoding all of them did.
_PATIENCE = 20.0

Segment = tuple[float | None, float | None]


@dataclass(frozen=True, eq=False)
class Watched:
    """A file decoded from end to end, with digests of the frames that were asked for."""

    info: ClipInfo
    line: Timeline
    digests: dict[int, bytes]  # by tick


def watch(path: Path, keep: Callable[[ClipInfo], set[int]], alive: Callable[[], None]) -> Watched:
    """Decode a file as a player does; ``keep`` says which ticks are to be remembered.

    Raises:
        ClipError: the file cannot be used, and why. Damage can lie between the frames that a study
            samples today; a decoder may then conceal it.
    """
    with open_clip(path) as container:
        info = probe_container(container, alive)
    wanted, digests = keep(info), dict[int, bytes]()
    stamps: list[tuple[int | None, int | None, int]] = []
    sizes: set[tuple[int, int]] = set()
    for frame in play(path, alive):
        stamps.append((frame.pts, frame.dts, frame.duration))
        sizes.add((frame.width, frame.height))
        if frame.pts in wanted:
            digests[frame.pts] = _digest(info.shown(frame))
    if len(sizes) > 1:
        raise ClipError("unreadable: the frame size changes within the clip")
    line = timeline(info, stamps)
    if np.array_equal(line.pts, info.pts):  # how long the last one stays stands in its packet
        line = replace(line, duration_s=info.duration_s)
    if info.each_shows:
        # What a file begins with may refer to what was cut off; later frames may not.
        shown = {pts for pts, _, _ in stamps if pts is not None}
        first = min(shown, default=info.ticks[0])
        missing = sum(tick not in shown for tick in info.ticks if tick > first)
        if missing:
            raise ClipError(f"unreadable: {missing} of {info.n_frames} frames cannot be decoded")
    return Watched(info, line, digests)


def _digest(frame: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(frame.tobytes() + str(frame.shape).encode()).digest()


def vet(
    path: Path,
    segments: Sequence[Segment],
    decoder: str,
    counts: Sequence[int],
    expect: Callable[[float], None] = lambda seconds: None,
) -> list[dict[str, Any]]:
    """Decode a file once from end to end, and compare what quicker ways of reading give.

    Args:
        path: the file.
        segments: its clips, as (start, end) in seconds; None: from the start, to the end.
        decoder: "pyav", or "decord" to read by it what it reads right.
        counts: how many frames a clip are sampled; compared for each of these.
        expect: is told in how many seconds at most there will be word again.

    Returns:
        A segment each: duration_s, fps, n_frames, width, height, the file's sha256 and how it is
        read; or reason alone.
    """
    said, begun = [0.0], time.monotonic()

    def alive() -> None:
        if time.monotonic() > said[0] + 1.0:
            said[0] = time.monotonic()
            expect(NO_PROGRESS_S)

    clips = [ClipFile(path, start, end) for start, end in segments]
    reading: Reading = "whole"
    try:
        if is_still(path):
            facts = [_still_facts(path)] * len(clips)
        else:
            seen = watch(path, lambda info: _sampled(clips, info, counts), alive)
            reads = len(clips) * len(counts)
            expect(NO_PROGRESS_S + _PATIENCE * reads * (time.monotonic() - begun))
            reading = _reading(seen, clips, decoder, counts)
            facts = [_facts(clip, seen) for clip in clips]
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                alive()
                digest.update(block)
    except ClipError as error:
        return [{"reason": str(error)} for _ in segments]
    except OSError as error:
        return [{"reason": f"unreadable: {error.strerror or error}"} for _ in segments]
    file_facts = {"sha256": digest.hexdigest(), "reading": reading}
    return [own | file_facts for own in facts]


def _still_facts(path: Path) -> dict[str, Any]:
    height, width = read_still(path).shape[1:3]
    return {"duration_s": 0.0, "fps": 0.0, "n_frames": 1, "width": width, "height": height}


def _facts(clip: ClipFile, seen: Watched) -> dict[str, Any]:
    line, info = seen.line, seen.info
    try:
        start, duration = clip.within(line.duration_s)
    except ClipError as error:
        return {"reason": str(error)}
    # The one that is on screen when it begins, and those that begin later.
    n = int(np.sum((line.pts > start) & (line.pts < start + duration))) + 1
    return {
        "duration_s": duration,
        "fps": n / duration if duration > 0 else 0.0,
        "n_frames": n,
        "width": info.width,
        "height": info.height,
    }


def _sampled(clips: Sequence[ClipFile], info: ClipInfo, counts: Sequence[int]) -> set[int]:
    """Ticks of the frames that are sampled, by what the packets say."""
    if not info.tells:
        return set()
    ticks: set[int] = set()
    for clip in clips:
        with suppress(ClipError):  # a segment outside the file is told by itself
            start, duration = clip.within(info.duration_s)
            for n in counts:
                ticks |= {info.ticks[i] for i in frame_indices(info.pts, n, duration, start)}
    return ticks


def _reading(
    seen: Watched, clips: Sequence[ClipFile], decoder: str, counts: Sequence[int]
) -> Reading:
    """The quickest way of reading that gives the frames that the file shows."""
    info, line = seen.info, seen.line
    if not info.tells or not np.array_equal(info.pts, line.pts):
        return "whole"
    if decoder == "decord" and info.suits_decord and _agrees("decord", seen, clips, counts):
        return "decord"
    return "packets" if _agrees("packets", seen, clips, counts) else "whole"


def _agrees(
    reading: Reading, seen: Watched, clips: Sequence[ClipFile], counts: Sequence[int]
) -> bool:
    info = seen.info
    for clip in clips:
        try:
            start, duration = clip.within(info.duration_s)
        except ClipError:  # told by itself
            continue
        for n in counts:
            try:
                frames = read_frames(replace(clip, reading=reading), n)
            except ClipError:
                return False
            wanted = frame_indices(info.pts, n, duration, start)
            if [_digest(frame) for frame in frames] != [
                seen.digests[info.ticks[i]] for i in wanted
            ]:
                return False
    return True
