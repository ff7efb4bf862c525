"""How a process of this project runs and ends: jobs of the workflow, commands, and their imports.

A job has a log, a clock, and one sentence on a user's mistake; a command has the sentence alone.
The sentence is the last line of the log, where the console of the workflow finds it.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from siglip_study.base.errors import (
    Damaged,
    StudyError,
    first_line,
    is_full_disk,
    is_lost_gpu,
    is_out_of_memory,
)
from siglip_study.base.head import following, held_alone
from siglip_study.base.io import check_digest, set_aside, sweep_partials, write_digest

log = logging.getLogger("siglip_study")
_log_path: str | None = None

#: Set where a console tells at the end why jobs failed; they then leave the terminal alone.
CONSOLE = "SIGLIP_STUDY_CONSOLE"
_PREFIX = "siglip-study: "
# Begins the line above which a log tells of an earlier life of its job.
_LIFE = "---- "
_WITH_DIGESTS = (".json", ".parquet", ".safetensors")


def exit_status(work: Callable[[], int | None]) -> int:
    """Run ``work``; its own status, 0 for none, or 1 with the sentence on standard error.

    Whoever reads its output may stop (``| head``): it ends without a word then, as others do.
    """
    try:
        status = work() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes as it ends
        return 128 + signal.SIGPIPE
    except StudyError as error:
        print(f"{_PREFIX}{error}", file=sys.stderr)
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


def share_cores() -> None:
    """Let OpenMP's threads wait for each other in short loops; before torch is imported.

    They are milliseconds long: on a machine that others use as well, training on its CPU takes
    three times as long. Asleep at once, it takes a quarter longer on a quiet one.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")


@contextmanager
def job(log_path: str, outputs: Iterable[str] = (), inputs: Iterable[str] = ()) -> Iterator[None]:
    """Run a job: everything it prints goes to its log, progress also to the terminal.

    In the end the digests of its ``outputs`` are recorded, but for folders, which have their own.
    The ``inputs`` are held against theirs, also those that it only waits for. What a job finds
    damaged it sets aside, so that the study's next run makes it anew. No two
    processes do one job at a time: the later one waits a while, and ends well if the outputs are
    there then. Snakemake deletes them before it starts a job, so the other one has made them.

    A StudyError ends the process with its one sentence, in the log and on the terminal, and exit
    code 1; so does a GPU without room, whose traceback is in the log as well. Any other exception
    is a defect: its traceback goes to the log and to the terminal. Under a :data:`CONSOLE` the
    terminal gets neither: the log's last line is told there when everything has ended.
    """
    share_cores()
    made = [Path(output) for output in outputs]
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with log_to(log_path) as file:
        # Snakemake's benchmark sees the CPU time of this process only where nothing is handed over.
        began, busy = time.monotonic(), time.process_time()
        try:
            print(f"{_LIFE}{datetime.now().isoformat(' ', 'seconds')}", file=file)
            with following(), held_alone(Path(log_path).with_suffix(".lock"), "doing this job"):
                if made and all(path.exists() for path in made):
                    log.info("done: another process of this job has made what it makes")
                    sys.exit()
                for path in made:
                    sweep_partials(path)
                for path in map(Path, inputs):
                    if path.suffix in _WITH_DIGESTS:
                        check_digest(path)
                yield
                for path in made:
                    if path.suffix in _WITH_DIGESTS:
                        write_digest(path)
            worked = time.process_time() - busy
            log.debug("done in %.1f s, %.1f s of CPU time", time.monotonic() - began, worked)
        except BaseException as error:
            if isinstance(error, SystemExit) and not error.code:
                sys.stdout, sys.stderr = sys.__stdout__, terminal
                raise
            of = Path(log_path)
            known, sentence = _sentence(of.parent.name if of.stem == "all" else of.stem, error)
            is_logged = True
            try:
                if not isinstance(error, StudyError):
                    traceback.print_exc(file=file)
                print(f"{_PREFIX}{sentence}", file=file, flush=True)
            except OSError:  # no room for the log either: what it still holds goes nowhere
                is_logged = False
                os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
            sys.stdout, sys.stderr = sys.__stdout__, terminal
            if CONSOLE not in os.environ or not is_logged:
                if not known:
                    raise
                print(f"{_PREFIX}{sentence}", file=terminal, flush=True)
            # SystemExit, not a traceback: the sentence is all a user needs.
            raise SystemExit(_status(error)) from None
        finally:
            # The process ends here: what it holds need not be searched for garbage, for seconds.
            gc.freeze()
        sys.stdout, sys.stderr = sys.__stdout__, terminal


def _sentence(job: str, error: BaseException) -> tuple[bool, str]:
    """Whether an exception is one that users are meant to see, and the sentence on it."""
    if isinstance(error, Damaged):
        return True, made_anew(error)
    if isinstance(error, StudyError):
        return True, " ".join(str(error).splitlines())
    if is_out_of_memory(error):
        return True, out_of_memory(job, error)
    if is_lost_gpu(error):
        told = f"{job} lost its GPU ({first_line(error)[:300]})"
        return True, (
            f"{told}: the device or its driver failed, nothing in the config; expected a GPU that "
            "`nvidia-smi` lists without errors, then the same command again, which continues."
        )
    if is_full_disk(error):
        told = f"{job} found no room on a disk ({first_line(error)[:300]})"
        return True, (
            f"{told}; expected room for what `snakemake rehearse` reckons in output_dir and in the "
            "folder of temporary files, then the same command again, which continues."
        )
    told = f"{type(error).__name__}: {first_line(error)}"
    return False, f"{told} (a defect or an interruption; the traceback is in the log)."


def made_anew(error: Damaged) -> str:
    """Set aside what is damaged; the sentence on it."""
    places = " and ".join(str(set_aside(path)) for path in error.paths)
    told = " ".join(error.found.splitlines())
    return f"{told}, and the same command makes it anew; what was found lies in {places} now."


def _status(error: BaseException) -> int:
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1


def last_sentence(log_path: Path) -> str | None:
    """The sentence that a job ended with, as :func:`job` left it in its log; None without one."""
    if not log_path.is_file():
        return None
    for line in reversed(log_path.read_text(encoding="utf-8", errors="replace").splitlines()):
        if line.startswith(_PREFIX):
            return line
        if line.startswith(_LIFE):
            break
    return None


def out_of_memory(job: str, error: BaseException) -> str:
    """The sentence on a job that a GPU had no room for, with the keys that make it smaller."""
    return (
        f"{job} found no room in the GPU's memory ({first_line(error)[:300]}); expected a GPU that "
        "nobody else fills, runtime.memory_gb at what is free, runtime.checkpointing: all, or a "
        "smaller captions.batch_size or runtime.encode_batch_clips."
    )


@contextmanager
def loading(without: str | None = None) -> Iterator[None]:
    """Import with the garbage collector off, and leave what the modules hold out of its sight.

    torch, transformers and peft are 800,000 objects that live as long as the process. Searching
    them for garbage again and again, most of all while Python ends, takes a third of a job's start.

    Only for imports: garbage of the block is never freed, so no model may be built inside.

    Args:
        without: a package that counts as not installed inside, for what would import it needlessly.
    """
    was_on, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    hidden = without if without not in sys.modules else None
    if hidden:
        sys.modules[hidden] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[hidden]
        if len(sys.modules) > known:
            gc.freeze()
        if was_on:
            gc.enable()
