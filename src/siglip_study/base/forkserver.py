"""Jobs start in a fork of a process that has the libraries imported already.

torch, transformers and peft take a job of a small study longer to import than to use. The first job
of a study starts a server, which imports them once; each job's script hands itself over and runs in
a fork of it, with the job's own arguments, environment, folder, streams and exit status. Nothing
that a job computes reaches another: a fork has its own memory. A job that is killed takes its fork
along, and the server ends once nobody has asked for a while, or its host's jobs are over.

For jobs on the CPU of Linux: where there is a GPU, imports are a small part of a job's start, and
some library wakes CUDA as it is imported, which no fork survives. The server imports and does
nothing else. One serves one user, interpreter and state of this code.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import hashlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import share_cores

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
#: Variables that libraries read while they are imported: another value needs another server.
_READ_ON_IMPORT = (
    *("ATEN_", "BNB_", "CUDA_", "GOMP_", "HF_", "HUGGINGFACE_", "KMP_", "LD_", "MKL_", "NCCL_"),
    *(
        "OMP_",
        "OPENBLAS_",
        "PYTHON",
        "PYTORCH_",
        "TOKENIZERS_",
        "TORCH",
        "TRANSFORMERS_",
        "TRITON_",
    ),
)
#: Set in a fork: it runs the job itself.
_FORKED = "_SIGLIP_STUDY_FORKED"
_LENGTH = struct.Struct("!I")


# ---- The job's side.


def run_in_fork(keep_s: float, preload: Sequence[str] = PRELOADED) -> None:
    """Run the calling script in a fork of the server, and end with its exit status.

    Returns in the fork, and where there is no server to be (``keep_s`` 0, no Linux, or a GPU): the
    script goes on by itself. Call it before anything that must not happen twice.

    Args:
        keep_s: seconds that the server waits for a next job.
        preload: modules that the server imports.
    """
    if os.environ.pop(_FORKED, "") or not _may_serve(keep_s):
        return
    share_cores()
    place = _folder() / f"{_key(preload)}.sock"
    task = {
        "argv": sys.argv,
        "path": sys.path,
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
    }
    message = json.dumps(task).encode()
    with _connected(place, keep_s, preload) as server:
        socket.send_fds(server, [_LENGTH.pack(len(message))], [0, 1, 2])
        server.sendall(message)
        answer = server.recv(_LENGTH.size, socket.MSG_WAITALL)
    if len(answer) < _LENGTH.size:
        raise StudyError(
            f"the process that starts jobs ended ({place.with_suffix('.log')} may say why); "
            "expected it to live as long as its jobs: start the study again to continue, or set "
            "runtime.keep_imported_s to 0."
        )
    (status,) = struct.unpack("!i", answer)
    if status < 0:  # ended by a signal: so does this process
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.stdout.flush()
    os._exit(status)


def import_ahead(keep_s: float, preload: Sequence[str] = PRELOADED) -> None:
    """Start the server for jobs to come, and do not wait for it: the calling job has other work.

    Nothing where :func:`run_in_fork` would not use one; arguments as there.
    """
    if _may_serve(keep_s):
        share_cores()
        _connected(_folder() / f"{_key(preload)}.sock", keep_s, preload).close()


def _may_serve(keep_s: float) -> bool:
    return keep_s > 0 and sys.platform == "linux" and not Path("/dev/nvidiactl").exists()


def _folder() -> Path:
    """A folder that only this user can enter."""
    folder = Path(tempfile.gettempdir()) / f"siglip-study-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StudyError(
            f"{folder} is no folder of this user alone; expected nobody else to enter it: remove "
            "it, or set runtime.keep_imported_s to 0."
        )
    return folder


def _key(preload: Sequence[str]) -> str:
    """What a server must share with a job: interpreter, packages, this code, some variables."""
    digest = hashlib.sha256(f"{sys.executable} {sys.prefix} {preload}".encode())
    package = Path(__file__).parents[1]
    # A folder of packages changes when one is installed.
    for path in [Path(sysconfig.get_path("purelib")), *sorted(package.rglob("*.py"))]:
        found = path.stat()
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns}".encode())
    for name in sorted(os.environ):
        if name.startswith(_READ_ON_IMPORT):
            digest.update(f"{name}={os.environ[name]}".encode())
    return digest.hexdigest()[:16]


def _connected(place: Path, keep_s: float, preload: Sequence[str]) -> socket.socket:
    """The server, which is started if there is none."""
    server = socket.socket(socket.AF_UNIX)
    with _locked(place), _address(place) as address:
        try:
            server.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            place.unlink(missing_ok=True)
            _start(place, keep_s, preload)
            server.connect(address)
    return server


@contextlib.contextmanager
def _address(place: Path) -> Iterator[str]:
    """A short name of ``place``: the path of a socket may have 107 bytes."""
    folder = os.open(place.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{place.name}"
    finally:
        os.close(folder)


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Nobody else starts or ends this server meanwhile."""
    with place.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(place: Path, keep_s: float, preload: Sequence[str]) -> None:
    """Start a server that listens at ``place``, outside of this job's session."""
    listening = socket.socket(socket.AF_UNIX)
    with _address(place) as address:
        listening.bind(address)
    listening.listen(128)
    with listening, place.with_suffix(".log").open("wb") as log:
        subprocess.Popen(
            [
                *(sys.executable, "-m", "siglip_study.base.forkserver"),
                *(str(listening.fileno()), str(place), f"{keep_s:g}", *preload),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )


# ---- The server's side.


def serve(listening: socket.socket, place: Path, keep_s: float, preload: Sequence[str]) -> None:
    """Import, then fork for whoever asks, until nobody has for ``keep_s``."""
    gc.disable()
    for name in preload:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()

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
                with caller, contextlib.suppress(OSError):
                    caller.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
        last = time.monotonic() if jobs else last
        if not jobs and time.monotonic() - last >= keep_s and _closed(listening, place):
            return


def _drained(end: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        return bool(end.recv(4096))
    return False


def _closed(listening: socket.socket, place: Path) -> bool:
    """Stop listening, unless somebody has asked just now."""
    with _locked(place):
        with selectors.DefaultSelector() as waiting:
            waiting.register(listening, selectors.EVENT_READ)
            if waiting.select(timeout=0):
                return False
        place.unlink(missing_ok=True)
        return True


def _fork(caller: socket.socket, others: list[socket.socket]) -> int | None:
    """Read what to run, and run it in a fork; None if the caller hung up."""
    caller.settimeout(30)
    try:
        header, streams, _, _ = socket.recv_fds(caller, _LENGTH.size, 3)
        message = b""
        while len(message) < _LENGTH.unpack(header)[0]:
            part = caller.recv(65536)
            if not part:
                return None
            message += part
        task = json.loads(message)
    except (OSError, struct.error):
        return None
    caller.settimeout(None)
    pid = os.fork()
    if pid == 0:
        for other in (caller, *others):
            other.close()
        os._exit(_run(task, streams))
    for stream in streams:
        os.close(stream)
    return pid


def _run(task: dict[str, Any], streams: list[int]) -> int:
    """Be the job's script; its exit status."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(task["folder"])
    os.environ.clear()
    os.environ.update(task["environment"] | {_FORKED: "1"})
    sys.argv, sys.path[:] = task["argv"], task["path"]
    status = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    # As an interpreter that ends, but for the garbage, which dies with the process.
    atexit._run_exitfuncs()
    for out in (sys.stdout, sys.stderr):
        out.flush()
    return status


if __name__ == "__main__":
    fd, path, seconds, *modules = sys.argv[1:]
    serve(socket.socket(fileno=int(fd)), Path(path), float(seconds), modules)
