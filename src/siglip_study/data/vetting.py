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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import siglip_study
from siglip_study.base.errors import ClipError
from siglip_study.data.decoding import Decoder, check_every_frame

# ---- The child process that opens clips, so that a decoder's crash costs one clip and not the run.
#
# ``python -m siglip_study.data.vetting <decoder> <frames>`` reads one JSON text (a path) a line
# and answers each with one JSON object a line: the facts of the clip, or ``{"reason": …}``.


def vet(path: Path, decoder: Decoder, n_frames: int) -> dict[str, Any]:
    """Decode a clip from end to end, and its sampled frames with the study's decoder.

    Returns:
        duration_s, fps, n_frames, width, height and the file's sha256; or reason alone.
    """
    try:
        info = check_every_frame(path)
        decoder.read(path, n_frames)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except ClipError as error:
        return {"reason": str(error)}
    except OSError as error:
        return {"reason": f"unreadable: {error.strerror or error}"}
    facts = ("duration_s", "fps", "n_frames", "width", "height")
    return {name: getattr(info, name) for name in facts} | {"sha256": digest}


def main(decoder_name: str, n_frames: int) -> None:
    """Answer every line of standard input; end with it."""
    # What native libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    decoder = Decoder(decoder_name)
    for line in sys.stdin:
        answer = vet(Path(json.loads(line)), decoder, n_frames)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class VetProcess:
    """One worker process; started when it is first needed, and again after a crash.

    A clip that keeps it busy for more than ``timeout_s`` is taken for one that hangs the decoder.
    """

    def __init__(self, decoder: str, n_frames: int, timeout_s: float = 300.0) -> None:
        module = "siglip_study.data.vetting"
        self.command = [sys.executable, "-m", module, decoder, str(n_frames)]
        self.timeout_s = timeout_s
        self._process: subprocess.Popen[str] | None = None

    def vet(self, path: Path) -> dict[str, Any]:
        """The clip's facts, or ``{"reason": …}``; a crash or a hang is a reason as well."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.timeout_s, stop)
        timer.start()
        try:
            process.stdin.write(json.dumps(str(path)) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line.endswith("\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = process.wait()
        self.close()
        if late.is_set():
            return {"reason": f"unreadable: the decoder hung for {self.timeout_s:g} s"}
        return {"reason": f"unreadable: the decoder crashed (exit status {code})"}

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


def vet_clips(
    paths: Sequence[Path], decoder: str, n_frames: int, workers: int
) -> list[dict[str, Any]]:
    """Vet every clip with the study's decoder in ``workers`` processes (0: one a core).

    Answers (see :func:`vet`) come in the order of ``paths``.

    Raises:
        StudyError: the decoder does not exist or is not installed.
    """
    Decoder(decoder)  # raises before any process starts
    count = max(1, min(workers or len(os.sched_getaffinity(0)), len(paths)))
    idle: SimpleQueue[VetProcess] = SimpleQueue()
    everyone = [VetProcess(decoder, n_frames) for _ in range(count)]
    for process in everyone:
        idle.put(process)

    def vet_one(path: Path) -> dict[str, Any]:
        process = idle.get()
        try:
            return process.vet(path)
        finally:
            idle.put(process)

    try:
        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(vet_one, paths))
    finally:
        for process in everyone:
            process.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
