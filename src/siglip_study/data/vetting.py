"""Opens many clips in parallel, each decoder in a process of its own that may die.

Plain subprocesses and JSON lines rather than a multiprocessing pool: a pool is lost when one
worker crashes, cannot say on which clip, and imports the calling script anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

import siglip_study
from siglip_study.base.errors import ClipError
from siglip_study.data.clips import ClipFile, Reading, frame_indices
from siglip_study.data.decoding import Timeline, play, read_frames, require_decoder, timeline
from siglip_study.data.probing import ClipInfo, open_clip, probe_container
from siglip_study.data.stills import is_still, read_still

#: A decoder that says nothing for so long hangs. The whole time that a clip may take has no limit:
#: it grows with the clip.
NO_PROGRESS_S = 120.0
#: Reading some frames may take this many times as long as decoding all of them did.
_PATIENCE = 20.0

Segment = tuple[float | None, float | None]


# ---- One file: what it shows, and which way of reading it is right.


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
            expect(NO_PROGRESS_S + _PATIENCE * (time.monotonic() - begun))
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


# ---- The child process that opens files, so that a decoder's crash costs one file and not the run.
#
# ``python -m siglip_study.data.vetting <frames>,<frames>…`` reads one JSON object a line, as
# :class:`VetProcess` writes it, and answers with a list: what :func:`vet` returns. Before that come
# numbers: in so many seconds at most there will be word again.


def main(counts: Sequence[int]) -> None:
    """Answer every line of standard input; end with it."""
    # What native libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    for line in sys.stdin:
        asked = json.loads(line)
        say(vet(Path(asked["path"]), asked["segments"], asked["decoder"], counts, say))


class VetProcess:
    """One worker process; started when it is first needed, and again after a crash."""

    def __init__(self, counts: Sequence[int], no_progress_s: float = NO_PROGRESS_S) -> None:
        module = "siglip_study.data.vetting"
        self.command = [sys.executable, "-m", module, ",".join(map(str, counts))]
        self.no_progress_s = no_progress_s
        self._process: subprocess.Popen[str] | None = None

    def vet(
        self, path: Path, segments: Sequence[Segment] = ((None, None),), decoder: str = "pyav"
    ) -> list[dict[str, Any]]:
        """The facts of each segment, or ``{"reason": …}``; a crash or a hang is a reason as well.

        What decord crashes or hangs on is asked again without it.
        """
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        asked = {"path": str(path), "segments": list(segments), "decoder": decoder}
        limit = self.no_progress_s
        with suppress(BrokenPipeError):  # it is dead: told below
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        while True:
            late = threading.Event()
            timer = threading.Timer(limit, _stop, (process, late))
            timer.start()
            try:
                line = process.stdout.readline()
            finally:
                timer.cancel()
            if not line.endswith("\n"):
                break
            answer = json.loads(line)
            if isinstance(answer, list):
                return answer
            limit = float(answer)
        code = process.wait()
        self.close()
        if decoder == "decord":
            return self.vet(path, segments)
        if late.is_set():
            reason = f"unreadable: the decoder hung, no progress for {limit:g} s"
        else:
            reason = f"unreadable: the decoder crashed (exit status {code})"
        return [{"reason": reason} for _ in segments]

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):  # it died with unread input: nothing is lost
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[str]:
        # The caller may have found the package through sys.path alone.
        home = str(Path(siglip_study.__file__).resolve().parents[1])
        paths = [home, os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
        )
        return self._process


def _stop(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()


def vet_clips(
    clips: Sequence[ClipFile], decoder: str, counts: Sequence[int], workers: int
) -> list[dict[str, Any]]:
    """Vet every clip for the study's decoder in ``workers`` processes (0: one a core).

    A file is decoded once, however many segments of it are clips; ``counts`` are the numbers of
    frames that will be sampled. Answers (see :func:`vet`) come in the order of ``clips``.

    Raises:
        StudyError: the decoder does not exist or is not installed.
    """
    require_decoder(decoder)
    places: dict[Path, list[int]] = defaultdict(list)
    for place, clip in enumerate(clips):
        places[clip.path].append(place)
    count = max(1, min(workers or len(os.sched_getaffinity(0)), len(places)))
    idle: SimpleQueue[VetProcess] = SimpleQueue()
    everyone = [VetProcess(counts) for _ in range(count)]
    for process in everyone:
        idle.put(process)

    def vet_file(path: Path) -> list[dict[str, Any]]:
        process = idle.get()
        try:
            segments = [(clips[place].start_s, clips[place].end_s) for place in places[path]]
            return process.vet(path, segments, decoder)
        finally:
            idle.put(process)

    try:
        with ThreadPoolExecutor(count) as threads:
            found = list(threads.map(vet_file, places))
    finally:
        for process in everyone:
            process.close()
    answers: list[dict[str, Any]] = [{} for _ in clips]
    for where, told in zip(places.values(), found, strict=True):
        for place, answer in zip(where, told, strict=True):
            answers[place] = answer
    return answers


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1].split(",")])
