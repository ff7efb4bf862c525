"""Opens many clips in parallel, each decoder in a process of its own that may die.

Plain subprocesses and JSON lines rather than a multiprocessing pool: a pool is lost when one
worker crashes, cannot say on which clip, and imports the calling script anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import siglip_study
from siglip_study.data.clips import ClipFile
from siglip_study.data.decoding import require_decoder
from siglip_study.data.vetting import NO_PROGRESS_S, Segment, vet

# ---- The child process that opens files, so that a decoder's crash costs one file and not the run.
#
# ``python -m siglip_study.data.vetting_processes <frames>,<frames>…`` reads one JSON object a line,
# as :class:`VetProcess` writes it, and answers with a list: what :func:`vet` returns. Before that
# come numbers: in so many seconds at most there will be word again.


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
        module = "siglip_study.data.vetting_processes"
        self.command = [sys.executable, "-m", module, ",".join(map(str, counts))]
        self.no_progress_s = no_progress_s
        self._process: subprocess.Popen[str] | None = None

    def vet(
        self,
        path: Path,
        segments: Sequence[Segment] = ((None, None),),
        decoder: str = "pyav",
        tries: int = 2,
    ) -> list[dict[str, Any]]:
        """The facts of each segment, or ``{"reason": …}``; a crash or a hang is a reason as well.

        What decord crashes or hangs on is asked again without it. Of the other decoder a file is to
        blame that ends it ``tries`` times: once may be a kill from outside, as for want of memory.
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
        if tries > 1:
            return self.vet(path, segments, decoder, tries - 1)
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
