"""Jobs on a GPU run one after the other in a process that keeps what it has loaded.

CUDA survives no fork, so here a job's script runs in the server itself: CUDA's context, libraries,
compiled graphs and whatever a room lends to its jobs (:func:`tidied_by`) are there for the next
one. Each job stays a process of its own that waits here: one that is killed takes the server along,
with the work of that job and nothing else, and a job that fails ends it too.

A server lives for the workflow that started it (:mod:`.head`): it ends with it, after
``keep_s`` without a job, and as soon as somebody wants what it holds (:func:`given_up_if`).
As many jobs as run at a time have a server each.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from siglip_study.base.errors import StudyError
from siglip_study.base.forkserver import run_in_fork
from siglip_study.base.head import head_above, lives
from siglip_study.base.jobs import share_cores
from siglip_study.base.servers import (
    HANDED_OVER,
    Task,
    address,
    has_gpu_driver,
    let_server_run,
    locked_file,
    preload,
    read_on_import,
    receive,
    run_script,
    server_key,
    servers_folder,
    start_server,
    tell_status,
)

# ---- The job's side.


#: What a training job imports.
PRELOADED = (
    "siglip_study.models.libraries",
    "siglip_study.captioning.cell",
    "siglip_study.training.stages",
)


def run_where_loaded(keep_s: float, device: str, gpus: int) -> None:
    """Run the calling script where an earlier job has loaded what it needs, and end as it ends.

    On a machine without a GPU that is a fork (:mod:`.forkserver`), for a job on one GPU a kept
    process. Returns there, and where there is no such place: several GPUs have processes of their
    own.

    Args:
        keep_s: seconds that the place is kept without a job; 0: not at all.
        device: ``runtime.device``.
        gpus: how many the job works on.
    """
    if not has_gpu_driver():
        run_in_fork(keep_s)
    elif device != "cpu" and gpus == 1:
        run_in_kept_process(keep_s)


_SLOTS = 256  # more than a machine has GPUs


def run_in_kept_process(keep_s: float, modules: Sequence[str] = PRELOADED) -> None:
    """Run the calling script in a process that is kept, and end with its exit status.

    Returns over there, and where nothing is to be kept (``keep_s`` 0, no Linux, or no marked
    workflow above): the script goes on by itself. Call it before anything that must not happen
    twice.

    Args:
        keep_s: seconds that the process waits for a next job.
        modules: what it imports first.
    """
    if os.environ.pop(HANDED_OVER, "") or keep_s <= 0 or sys.platform != "linux":
        return
    head = head_above()
    if head is None:
        return
    share_cores()
    folder, key = servers_folder(), server_key(modules, head)
    for slot in range(_SLOTS):
        place = folder / f"{key}-{slot}.sock"
        taken = locked_file(place, wait=False)
        if taken is not None:
            _hand_over(taken, place, [f"{keep_s:g}", head, *modules])
    raise StudyError(f"{folder}: {_SLOTS} jobs run at a time; expected fewer than a machine can.")


def _hand_over(taken: BinaryIO, place: Path, arguments: list[str]) -> None:
    """Hand over to the server of this slot, which is ours for as long as this process lives."""
    with taken:
        server = _connected(place)
        if server is None:  # none is there, or it was just ending
            place.unlink(missing_ok=True)
            start_server(place, "siglip_study.base.kept", *arguments)
            server = _connected(place)
        if server is None:
            raise StudyError(
                f"the process that runs jobs did not start ({place.with_suffix('.log')} may say "
                "why); expected it to: set runtime.keep_loaded_s to 0."
            )
        let_server_run(server, place)


def _connected(place: Path) -> socket.socket | None:
    """The server, once it is ready; None without one."""
    server = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError), address(place) as name:
        server.connect(name)
        if server.recv(1):
            return server
    server.close()
    return None


# ---- What other rooms tell a process that is kept.

_is_kept = False
_tidying: list[Callable[[], None]] = []
_wanted: list[Callable[[], bool]] = []


def is_kept() -> bool:
    """Whether this process outlives its job: what is left in it then, the next job finds."""
    return _is_kept


def tidied_by(work: Callable[[], None]) -> None:
    """Let ``work`` be done after each job, once its garbage is gone."""
    _tidying.append(work)


def given_up_if(wanted: Callable[[], bool]) -> None:
    """End this process between jobs as soon as ``wanted()``."""
    _wanted.append(wanted)


# ---- The server's side.

_POLL_S = 0.25


def serve_jobs(listening: socket.socket, place: Path, keep_s: float, head: str) -> None:
    """Run one job after the other until there is a reason to end."""
    while (caller := _next(listening, keep_s, head)) is not None:
        if not _serve(caller):
            break
        _tidy()
    # A caller that comes now finds no server and starts one, for the place is not ours any more.
    lock = locked_file(place, wait=False)
    if lock is not None:
        with lock:
            place.unlink(missing_ok=True)
    listening.close()


def _next(listening: socket.socket, keep_s: float, head: str) -> socket.socket | None:
    """The next job; None: this process ends."""
    last = time.monotonic()
    while not any(wanted() for wanted in _wanted):
        if select.select([listening], [], [], _POLL_S)[0]:
            return listening.accept()[0]
        if time.monotonic() - last >= keep_s or not lives(head):
            return None
    return None


def _serve(caller: socket.socket) -> bool:
    """Run a job's script; whether this process may run another."""
    with caller:
        try:
            caller.sendall(b"\1")
        except OSError:
            return True
        received = receive(caller)
        if received is None:
            return True
        over, deciding = threading.Event(), threading.Lock()

        def watch() -> None:
            """End with a caller that is killed."""
            with contextlib.suppress(OSError):
                caller.recv(1)
            with deciding:
                if not over.is_set():
                    os.kill(os.getpid(), signal.SIGKILL)

        watcher = threading.Thread(target=watch, name="caller", daemon=True)
        watcher.start()
        task, streams = received
        with _standing_in(task, streams):
            status = run_script(task)
        with deciding:
            over.set()
        tell_status(caller, status)
        with contextlib.suppress(OSError):
            caller.shutdown(socket.SHUT_RDWR)  # wakes the watcher
        watcher.join()
        return status == 0


@contextlib.contextmanager
def _standing_in(task: Task, streams: list[int]) -> Iterator[None]:
    """Be where the job's process is: folder, variables, streams.

    What libraries read on import stays, be it set by an earlier job (the GPU that is taken).
    Streams are Python's alone: processes that libraries start, and keep, inherit this one's own,
    and not the terminal of one of its jobs.
    """
    os.chdir(task.folder)
    before = {k: v for k, v in os.environ.items() if not read_on_import(k)}
    given = {k: v for k, v in task.environment.items() if not read_on_import(k)}
    _use_variables(given | {HANDED_OVER: "1"})
    own = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
    modes = zip(own, streams, ("r", "w", "w"), strict=True)
    files: dict[str, TextIO] = {n: os.fdopen(fd, mode, 1) for n, fd, mode in modes}  # type: ignore[misc]
    _use_streams(files)
    try:
        yield
    finally:
        _use_streams(own)
        for file in files.values():
            with contextlib.suppress(OSError):  # a terminal that has gone
                file.close()
        _use_variables(before)
        os.chdir("/")


def _use_variables(own: dict[str, str]) -> None:
    """Have these, and of all others only what libraries read on import."""
    for name in [k for k in os.environ if not read_on_import(k)]:
        del os.environ[name]
    os.environ.update(own)


def _use_streams(files: dict[str, TextIO]) -> None:
    for name, file in files.items():
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)


def _tidy() -> None:
    """Free what the job held; a job has told the collector to leave it alone (``jobs.job``)."""
    gc.unfreeze()
    gc.collect()
    for work in _tidying:
        work()
    gc.freeze()


if __name__ == "__main__":
    # This module under its own name, where the rooms find it.
    from siglip_study.base import kept

    fd, path, seconds, workflow, *names = sys.argv[1:]
    kept._is_kept = True
    preload(names)
    kept.serve_jobs(socket.socket(fileno=int(fd)), Path(path), float(seconds), workflow)
    sys.stdout.flush()
    os._exit(0)  # at once: what it holds is wanted
