"""The process that leads a study, and what ties its jobs to it.

One ``snakemake`` starts all jobs of a study and is their *head*. While it lives it holds a lock in
the output folder, which the kernel drops with it, however it dies: who gets the lock knows that no
head is at work, and that what a dead one left may go. Beside it lies a record of the head and of
the code and config that it started with. A job begins only if all three are still those, and ends
when its head is gone, so that what another head then starts is alone in its folders.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_result, write_json

log = logging.getLogger(__name__)

_HEAD, _RECORD = "SIGLIP_STUDY_HEAD", "SIGLIP_STUDY_RECORD"
_SCHEMA = "head/1"
_CODE = ("*.py", "*.smk", "Snakefile")
_POLL_S = 1.0
#: Longer than an orphan needs to notice that its head is gone.
_PATIENCE_S = 15.0

# ---- Processes, told apart by id and start: ids are used again.


def mark_head() -> None:
    """Name this process as the head, to all that it starts."""
    os.environ[_HEAD] = _name(os.getpid())


def has_head() -> bool:
    """Whether this process works for a study's head, wherever that is."""
    return bool(os.environ.get(_HEAD))


def head_above() -> str | None:
    """The head, if it is a process above this one: on a cluster's node it is not."""
    marked, pid = os.environ.get(_HEAD), os.getppid()
    while marked and pid > 0:
        if _name(pid) == marked:
            return marked
        pid = _facts(pid)[0]
    return None


def _name(pid: int) -> str:
    """A name that no other process of any machine has or will have."""
    return f"{pid}:{_facts(pid)[1]}:{os.uname().nodename}"


def _facts(pid: int) -> tuple[int, str]:
    """Parent and start of a process; of one that is not there (0, "")."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, ""
    # After the name in brackets, which may hold anything: state, parent, …, start (the 22nd).
    rest = told.rpartition(")")[2].split()
    return (0, "") if rest[0] == "Z" else (int(rest[1]), rest[19])


def lives(process: str) -> bool:
    """Whether a process of this machine does."""
    return _name(int(process.partition(":")[0])) == process


def end_with_parent() -> None:
    """Have this fork killed as soon as the process that made it dies, however that is."""
    set_signal_of_parents_death = 1  # linux/prctl.h
    ctypes.CDLL(None).prctl(set_signal_of_parents_death, signal.SIGKILL)


# ---- Locks of processes.


@contextmanager
def held_alone(path: Path, doing: str, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Hold a lock file for a block; the kernel drops the lock with the process, however it dies.

    Args:
        path: the file, which says who holds it and is there as long as somebody does.
        doing: what no two processes may do at once, as "running this study".
        patience_s: how long to wait for the holder; one whose head is gone ends by itself.

    Raises:
        StudyError: another living process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + patience_s
    while True:
        with path.open("a+") as lock:
            lock.seek(0)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(0.1)
                    continue
                raise StudyError(
                    f"{path}: process {lock.read().strip() or 'unknown'} is {doing}; "
                    "expected it to end before another starts."
                ) from None
            except OSError as error:
                log.warning(
                    "%s: this file system locks no files (%s); two processes that are %s would "
                    "not notice each other",
                    *(path, error.strerror, doing),
                )
            # What its last holder has taken away says nothing any more.
            if not _is_at(path, lock):
                continue
            try:
                lock.truncate(0)
                lock.write(f"{os.getpid()} on {os.uname().nodename}")
                lock.flush()
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(path: Path, file: TextIO) -> bool:
    """Whether an open file is the one that lies there."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


# ---- The head's side.

_lead = ExitStack()  # held until this process ends


@dataclass(frozen=True)
class StartedWith:
    """What must stay while a study runs: digests of its code, its config, and whose they are."""

    code: str
    config: str
    #: files that are the code, and folders of such
    sources: tuple[str, ...]

    @classmethod
    def now(cls, config: Mapping[str, object], sources: Sequence[Path]) -> StartedWith:
        """Of a config as Snakemake has it, and of the code as it lies there."""
        asked = repr(sorted(config.items(), key=repr))
        code = tuple(str(source) for source in sources)
        return cls(code_digest(code), hashlib.sha256(asked.encode()).hexdigest()[:12], code)


@dataclass(frozen=True)
class _Head:
    process: str
    started_with: StartedWith


def code_digest(folders: Sequence[str]) -> str:
    """Twelve hex digits of some files, and the Python code and rules in folders, to the letter."""
    digest = hashlib.sha256()
    for folder in map(Path, folders):
        inside = (path for kind in _CODE for path in folder.rglob(kind))
        for path in [folder] if folder.is_file() else sorted(inside):
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def take_lead(folder: Path, snakemake_locks: Path) -> str | None:
    """Take the lead of the study whose resume points lie in ``folder``, until this process ends.

    Snakemake's own locks are files that say which paths they lock, and outlive their process. Those
    of the study's paths go, where no head lives that could have made them.

    Returns:
        None, or a sentence on why another process may be leading it.
    """
    try:
        _lead.enter_context(held_alone(folder / "head.lock", "running this study", patience_s=0))
    except StudyError as error:
        return str(error)
    except OSError as error:
        return unwritable(folder, error)
    ours = f"{folder.parent}/"
    stale = [
        lock
        for lock in sorted(snakemake_locks.glob("*.lock"))
        if any(line.startswith(ours) for line in lock.read_text("utf-8").splitlines())
    ]
    dead = None
    with suppress(StudyError):  # damaged as its host went down
        dead = _read(folder / "head.json")
    host = dead.process.split(":", 2)[2] if dead else os.uname().nodename
    if dead and lives(dead.process) and dead.process != _name(os.getpid()):
        # Where the disk locks no files, its record alone tells of it.
        _lead.close()
        number = dead.process.partition(":")[0]
        return (
            f"{folder.parent}: process {number} on {host} is running this study; expected it to "
            "end before another starts."
        )
    if stale and host != os.uname().nodename:
        _lead.close()
        return (
            f"{folder.parent}: a run on {host} did not end well, if it did; expected the same "
            "command there, or --unlock once none runs."
        )
    for lock in stale:
        lock.unlink()
    return None


def begin(record: Path, started_with: StartedWith) -> None:
    """Tell all jobs to come, on any machine, who their head is and what it started with.

    Raises:
        StudyError: the record cannot be written.
    """
    mark_head()
    head = _Head(os.environ[_HEAD], started_with)
    try:
        write_json(record, asdict(head), _SCHEMA)
    except OSError as error:
        raise StudyError(unwritable(record, error)) from None
    os.environ[_RECORD] = str(record.absolute())
    # After a kill it stays, and tells the next head.
    atexit.register(record.unlink, missing_ok=True)


def unwritable(path: Path, error: OSError) -> str:
    """The sentence on a place for results where nothing can be written."""
    return (
        f"{path}: cannot be written ({error.strerror}); expected output_dir to be a folder of "
        "yours, on a disk with room."
    )


# ---- The side of the jobs.


def follow(record: Path, started_with: StartedWith) -> None:
    """Be a process on a node that evaluates the workflow anew to run one of its jobs.

    Raises:
        StudyError: the study has another head now or none, or code or config are not those of its
            start.
    """
    head = _followed(record)
    if head.started_with.config != started_with.config:
        raise _changed("config")
    os.environ.setdefault(_HEAD, head.process)
    os.environ[_RECORD] = str(record.absolute())


@contextmanager
def following() -> Iterator[None]:
    """Run a job as long as its head is there; without one, as a script that somebody starts.

    Raises:
        StudyError: as :func:`follow`.
    """
    record = os.environ.get(_RECORD)
    if not record:
        yield
        return
    head = _followed(Path(record))
    over = threading.Event()
    watching = (Path(record), head.process, lives(head.process), over)
    threading.Thread(target=_end_with, args=watching, name="head", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _followed(record: Path) -> _Head:
    """The head, if it is this process's own and the code is still that of its start."""
    head, own = _read(record), os.environ.get(_HEAD)
    if head is None:
        raise StudyError(
            f"{record}: gone, so the run that started this job has ended; expected nothing of it: "
            "the same command again starts what is left."
        )
    if own is not None and own != head.process:
        raise StudyError(
            f"{record}: another run has begun since this job was started; expected nothing of it: "
            "that run starts its own."
        )
    if code_digest(head.started_with.sources) != head.started_with.code:
        raise _changed("code")
    return head


def _changed(what: str) -> StudyError:
    return StudyError(
        f"the {what} of this study has changed since it was started; expected it as it was until "
        "the run ends: put it back, or start the same command again to go on with what it is now."
    )


def _read(record: Path) -> _Head | None:
    return read_result(record, _Head, _SCHEMA) if record.is_file() else None


def _end_with(record: Path, process: str, is_near: bool, over: threading.Event) -> None:
    """End this process with its head: when that is gone, or another has taken its place."""
    while not over.wait(_POLL_S):
        try:
            head = _read(record)
        except (OSError, StudyError):  # a file system that is away for a while
            continue
        if head is None or head.process != process or (is_near and not lives(process)):
            log.error("the run that started this job has ended, so it ends as well")
            os.kill(os.getpid(), signal.SIGKILL)
