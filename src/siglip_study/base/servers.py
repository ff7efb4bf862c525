"""Jobs' scripts handed over to a process that has loaded before: what both kinds of it share.

A job's process sends its arguments, environment, folder and streams through a socket, waits, and
ends as its script ended over there: :mod:`.forkserver` runs it in a fork, :mod:`.kept` in itself.
A server serves one user, interpreter and state of this code.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import runpy
import signal
import socket
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from siglip_study.base.errors import StudyError

# Variables that libraries read while they are imported: another value needs another server.
_READ_ON_IMPORT = (
    *("ATEN_", "BNB_", "CUDA_", "GOMP_", "HF_", "HUGGINGFACE_", "KMP_", "LD_", "MKL_", "NCCL_"),
    *("OMP_", "OPENBLAS_", "PYTHON", "PYTORCH_", "TOKENIZERS_", "TORCH", "TRANSFORMERS_"),
    "TRITON_",
)
#: Set while a script is run by a server: it goes on by itself there.
HANDED_OVER = "_SIGLIP_STUDY_HANDED_OVER"
_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!i")
_KEY = "runtime.keep_loaded_s"


def read_on_import(variable: str) -> bool:
    """Whether libraries may have read this variable when they were imported."""
    return variable.startswith(_READ_ON_IMPORT)


def has_gpu_driver() -> bool:
    """Whether this machine has one of NVIDIA or AMD; asking it would wake it."""
    return any(Path(driver).exists() for driver in ("/dev/nvidiactl", "/dev/kfd"))


@dataclass(frozen=True)
class Task:
    """A script as it was started."""

    argv: list[str]
    path: list[str]
    folder: str
    environment: dict[str, str]


# ---- Where a server is found.


def servers_folder() -> Path:
    """A folder that only this user can enter.

    Raises:
        StudyError: somebody else's stands in its place.
    """
    folder = Path(tempfile.gettempdir()) / f"siglip-study-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StudyError(
            f"{folder} is no folder of this user alone; expected nobody else to enter it: remove "
            f"it, or set {_KEY} to 0."
        )
    return folder


def server_key(*more: object) -> str:
    """What a server must share with a job: interpreter, packages, this code, some variables."""
    digest = hashlib.sha256(f"{sys.executable} {sys.prefix} {more}".encode())
    package = Path(__file__).parents[1]
    # A folder of packages changes when one is installed.
    for path in [Path(sysconfig.get_path("purelib")), *sorted(package.rglob("*.py"))]:
        found = path.stat()
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns}".encode())
    for name in filter(read_on_import, sorted(os.environ)):
        digest.update(f"{name}={os.environ[name]}".encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def address(place: Path) -> Iterator[str]:
    """A short name of ``place``: the path of a socket may have 107 bytes."""
    folder = os.open(place.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{place.name}"
    finally:
        os.close(folder)


def locked_file(place: Path, wait: bool = True) -> BinaryIO | None:
    """The lock beside ``place``, held until it is closed; None if others hold it, and no wait."""
    file = place.with_suffix(".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    return file


def start_server(place: Path, module: str, *arguments: str) -> None:
    """Start ``module`` as a server that listens at ``place``, outside of this job's session."""
    listening = socket.socket(socket.AF_UNIX)
    with address(place) as name:
        listening.bind(name)
    listening.listen(128)
    with listening, place.with_suffix(".log").open("wb") as log:
        subprocess.Popen(
            [
                *(sys.executable, "-m", module),
                *(str(listening.fileno()), str(place), *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )


# ---- The job's side.


def let_server_run(server: socket.socket, place: Path) -> NoReturn:
    """Let the server run the calling script, and end as it ends there.

    Raises:
        StudyError: the server ended first.
    """
    task = Task(sys.argv, sys.path, str(Path.cwd()), dict(os.environ))
    message = json.dumps(asdict(task)).encode()
    answer = b""
    with server, contextlib.suppress(ConnectionError):
        socket.send_fds(server, [_LENGTH.pack(len(message))], [0, 1, 2])
        server.sendall(message)
        answer = server.recv(_STATUS.size, socket.MSG_WAITALL)
    if len(answer) < _STATUS.size:
        raise StudyError(
            f"the process that runs jobs ended ({place.with_suffix('.log')} may say why); "
            "expected it to live as long as its jobs: start the study again to continue, or set "
            f"{_KEY} to 0."
        )
    (status,) = _STATUS.unpack(answer)
    if status < 0:  # ended by a signal: so does this process
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.stdout.flush()
    os._exit(status)


# ---- The server's side.


def receive(caller: socket.socket) -> tuple[Task, list[int]] | None:
    """What to run, and the caller's three streams; None if the caller hung up."""
    caller.settimeout(30)
    try:
        header, streams, _, _ = socket.recv_fds(caller, _LENGTH.size, 3)
        message = b""
        while len(message) < _LENGTH.unpack(header)[0]:
            part = caller.recv(65536)
            if not part:
                return None
            message += part
    except (OSError, struct.error):
        return None
    caller.settimeout(None)
    return Task(**json.loads(message)), streams


def tell_status(caller: socket.socket, status: int) -> None:
    """Tell the exit status (negative: the signal), unless the caller has gone."""
    with contextlib.suppress(OSError):
        caller.sendall(_STATUS.pack(status))


def run_script(task: Task) -> int:
    """Run a script as an interpreter would, in this process; its exit status."""
    sys.argv, sys.path[:] = list(task.argv), task.path
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def preload(modules: Sequence[str]) -> None:
    """Import what jobs need, and leave it out of the garbage collector's sight."""
    import gc
    import importlib

    gc.disable()
    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
