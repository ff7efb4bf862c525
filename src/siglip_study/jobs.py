"""What every job of the workflow shares: a log, one sentence on a user's mistake, and a clock."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from siglip_study.errors import StudyError

log = logging.getLogger("siglip_study")


class _Tee:
    """Writes to the log file and to the terminal."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
            stream.flush()
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


@contextmanager
def job(log_path: str) -> Iterator[None]:
    """Run a job: everything it prints goes to its log, progress also to the terminal.

    A StudyError ends the process with its one sentence, in the log and on the terminal, and exit
    code 1. Any other exception is a defect: its traceback is left to Python.
    """
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with Path(log_path).open("a", encoding="utf-8") as file:
        sys.stdout = sys.stderr = file  # libraries chatter; the terminal shows progress only
        log.handlers = [logging.StreamHandler(_Tee(terminal, file))]
        log.setLevel(logging.INFO)
        log.propagate = False
        began = time.monotonic()
        try:
            yield
            log.debug("done in %.1f s", time.monotonic() - began)
        except StudyError as error:
            log.error("siglip-study: %s", error)
            file.flush()
            # SystemExit, not a traceback: the sentence above is all a user needs.
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            raise SystemExit(1) from None
        except BaseException:
            sys.stdout, sys.stderr = sys.__stdout__, terminal
            raise
        sys.stdout, sys.stderr = sys.__stdout__, terminal
