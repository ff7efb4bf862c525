"""Jobs on the CPU start in a fork of a process that has the libraries imported already.

torch, transformers and peft take a job of a small study longer to import than to use. The first job
of a study starts a server, which imports them once; each job's script hands itself over and runs in
a fork of it, with the job's own arguments, environment, folder, streams and exit status. Nothing
that a job computes reaches another: a fork has its own memory. A job that is killed takes its fork
along, and the server ends once nobody has asked for a while, or its host's jobs are over.

For Linux without a GPU: CUDA survives no fork, and some library wakes it as it is imported
(:mod:`.kept` is for trainings on one). The server imports and does nothing else.
"""

from __future__ import annotations

import atexit
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from siglip_study.base.head import has_head, head_above
from siglip_study.base.jobs import share_cores
from siglip_study.base.servers import (
    HANDED_OVER,
    Task,
    address,
    has_gpu_driver,
    let_server_run,
    locked_file,
    preload,
    receive,
    run_script,
    server_key,
    servers_folder,
    start_server,
    tell_status,
)

#: What jobs that load a model import, first of all what takes long.
PRELOADED = (
    "siglip_study.models.libraries",
    "siglip_study.captioning.cell",
    "siglip_study.training.stages",
    "siglip_study.features.pipeline",
    "siglip_study.scoring.baselines",
    "siglip_study.scoring.scores",
    "siglip_study.ranking.scorer_check",
)

# ---- The job's side.


def run_in_fork(keep_s: float, modules: Sequence[str] = PRELOADED) -> None:
    """Run the calling script in a fork of the server, and end with its exit status.

    Returns in the fork, and where there is no server to be (``keep_s`` 0, no Linux, a GPU, or a
    cluster's node): the script goes on by itself. Call it before anything that must not happen
    twice.

    Args:
        keep_s: seconds that the server waits for a next job.
        modules: what the server imports.
    """
    if os.environ.pop(HANDED_OVER, "") or not _may_serve(keep_s):
        return
    share_cores()
    place = servers_folder() / f"{server_key(modules)}.sock"
    let_server_run(_connected(place, keep_s, modules), place)


def import_ahead(keep_s: float, modules: Sequence[str] = PRELOADED) -> None:
    """Start the server for jobs to come, and do not wait for it: the calling job has other work.

    Nothing where :func:`run_in_fork` would not use one; arguments as there.
    """
    if _may_serve(keep_s):
        share_cores()
        _connected(servers_folder() / f"{server_key(modules)}.sock", keep_s, modules).close()


def _may_serve(keep_s: float) -> bool:
    if keep_s <= 0 or sys.platform != "linux" or has_gpu_driver():
        return False
    # A job of a cluster must not run in what another one was given, nor leave a server in its own.
    return not has_head() or head_above() is not None


def _connected(place: Path, keep_s: float, modules: Sequence[str]) -> socket.socket:
    """The server, which is started if there is none."""
    server = socket.socket(socket.AF_UNIX)
    lock = locked_file(place)  # nobody else starts or ends this server meanwhile
    assert lock is not None
    with lock, address(place) as name:
        try:
            server.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            place.unlink(missing_ok=True)
            start_server(place, "siglip_study.base.forkserver", f"{keep_s:g}", *modules)
            server.connect(name)
    return server


# ---- The server's side.


def serve_forks(
    listening: socket.socket, place: Path, keep_s: float, modules: Sequence[str]
) -> None:
    """Import, then fork for whoever asks, until nobody has for ``keep_s``."""
    preload(modules)

    # Woken by a new job, by a job that hangs up, and by a fork that ends.
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    events = selectors.DefaultSelector()
    events.register(listening, selectors.EVENT_READ)
    events.register(woken, selectors.EVENT_READ)
    jobs: dict[int, socket.socket] = {}
    last = time.monotonic()
    while True:
        for event, _ in events.select(timeout=keep_s):
            if event.fileobj is listening:
                caller = listening.accept()[0]
                pid = _fork(caller, [listening, woken, wake, *jobs.values()])
                if pid is None:
                    caller.close()
                    continue
                jobs[pid] = caller
                events.register(caller, selectors.EVENT_READ, pid)
            elif event.fileobj is woken:
                while _drained(woken):
                    pass
            elif event.data in jobs and not event.fileobj.recv(1):  # type: ignore[union-attr]
                # Killed: its fork ends before anybody else begins.
                os.kill(event.data, signal.SIGKILL)
                os.waitpid(event.data, 0)
                events.unregister(event.fileobj)
                jobs.pop(event.data).close()
        for pid in list(jobs):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                caller = jobs.pop(pid)
                events.unregister(caller)
                with caller:
                    tell_status(caller, os.waitstatus_to_exitcode(status))
        last = time.monotonic() if jobs else last
        if not jobs and time.monotonic() - last >= keep_s and _closed(listening, place):
            return


def _drained(end: socket.socket) -> bool:
    try:
        return bool(end.recv(4096))
    except BlockingIOError:
        return False


def _closed(listening: socket.socket, place: Path) -> bool:
    """Stop listening, unless somebody has asked just now."""
    lock = locked_file(place)
    assert lock is not None
    with lock, selectors.DefaultSelector() as waiting:
        waiting.register(listening, selectors.EVENT_READ)
        if waiting.select(timeout=0):
            return False
        place.unlink(missing_ok=True)
        return True


def _fork(caller: socket.socket, others: list[socket.socket]) -> int | None:
    """Read what to run, and run it in a fork; None if the caller hung up."""
    received = receive(caller)
    if received is None:
        return None
    task, streams = received
    pid = os.fork()
    if pid == 0:
        for other in (caller, *others):
            other.close()
        os._exit(_run(task, streams))
    for stream in streams:
        os.close(stream)
    return pid


def _run(task: Task, streams: list[int]) -> int:
    """Be the job's script; its exit status."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(task.folder)
    os.environ.clear()
    os.environ.update(task.environment | {HANDED_OVER: "1"})
    status = run_script(task)
    # As an interpreter that ends, but for the garbage, which dies with the process.
    atexit._run_exitfuncs()
    for out in (sys.stdout, sys.stderr):
        out.flush()
    return status


if __name__ == "__main__":
    fd, path, seconds, *names = sys.argv[1:]
    serve_forks(socket.socket(fileno=int(fd)), Path(path), float(seconds), names)
