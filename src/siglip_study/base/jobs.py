"""How a process of this project runs and ends: jobs of the workflow, commands, and their imports.

A job has a log, a clock, and one sentence on a user's mistake; a command has the sentence alone.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from siglip_study.base.errors import StudyError, first_line, is_out_of_memory

log = logging.getLogger("siglip_study")
_log_path: str | None = None


def exit_status(work: Callable[[], int | None]) -> int:
    """Run ``work``; its own status, 0 for none, or 1 with the sentence on standard error."""
    try:
        return work() or 0
    except StudyError as error:
        print(f"siglip-study: {error}", file=sys.stderr)
        return 1


def log_to(log_path: str, progress: bool = True) -> TextIO:
    """Send what this process prints to the end of a file, and its progress to the terminal too."""
    global _log_path
    _log_path = log_path
    terminal = sys.stderr
    file = Path(log_path).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
    sys.stdout = sys.stderr = file  # libraries chatter; the terminal shows progress only
    shown, kept = logging.StreamHandler(terminal), logging.StreamHandler(file)
    shown.setLevel(logging.INFO)  # the log file keeps the details as well
    log.handlers = [shown, kept] if progress else [kept]
    log.setLevel(logging.DEBUG)
    log.propagate = False
    return file


def log_file() -> str | None:
    """The log of the job that this process runs, if it runs one."""
    return _log_path


@contextmanager
def job(log_path: str) -> Iterator[None]:
    """Run a job: everything it prints goes to its log, progress also to the terminal.

    A StudyError ends the process with its one sentence, in the log and on the terminal, and exit
    code 1; so does a GPU without room, whose traceback is in the log as well. Any other exception
    is a defect: its traceback goes to the log and to the terminal.
    """
    # Read when torch is imported. OpenMP's threads wait for each other in loops, milliseconds long:
    # on a machine that others use as well, training on its CPU takes three times as long. Asleep at
    # once, it takes a quarter longer on a quiet one; so the loops are short.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with log_to(log_path) as file:
        began = time.monotonic()
        try:
            yield
            log.debug("done in %.1f s", time.monotonic() - began)
        except BaseException as error:
            sentence = str(error) if isinstance(error, StudyError) else None
            if sentence is None:
                traceback.print_exc(file=file)
                if not is_out_of_memory(error):
                    sys.stdout, sys.stderr = sys.__stdout__, terminal
                    raise
                sentence = out_of_memory(Path(log_path).stem, error)
            log.error("siglip-study: %s", sentence)
            file.flush()
            # SystemExit, not a traceback: the sentence above is all a user needs.
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            raise SystemExit(1) from None
        finally:
            # The process ends here: what it holds need not be searched for garbage, for seconds.
            gc.freeze()
        sys.stdout, sys.stderr = sys.__stdout__, terminal


def out_of_memory(job: str, error: BaseException) -> str:
    """The sentence on a job that a GPU had no room for, with the keys that make it smaller."""
    return (
        f"{job} found no room in the GPU's memory ({first_line(error)[:300]}); expected a GPU that "
        "nobody else fills, runtime.memory_gb at what is free, runtime.checkpointing: all, or a "
        "smaller captions.batch_size or runtime.encode_batch_clips."
    )


@contextmanager
def loading() -> Iterator[None]:
    """Import with the garbage collector off, and leave what the modules hold out of its sight.

    torch, transformers and peft are 800,000 objects that live as long as the process. Searching
    them for garbage again and again, most of all while Python ends, takes a third of a job's start.

    Only for imports: garbage of the block is never freed, so no model may be built inside.
    """
    was_on, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if was_on:
            gc.enable()
