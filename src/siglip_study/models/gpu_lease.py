"""GPUs that a process keeps to itself, so that concurrent jobs of a machine do not meet on one.

A GPU is taken by locking a file named after it, before CUDA starts in the process, and made the
only one that CUDA sees. The kernel drops the lock with the process, however it dies.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from siglip_study.base.errors import StudyError

log = logging.getLogger(__name__)

# One folder a machine, whoever runs and whatever TMPDIR says.
FOLDER = Path("/tmp/siglip-study-gpus")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
# Says to processes started by the holder that what they see is theirs.
_TAKEN = "SIGLIP_STUDY_GPUS_TAKEN"
_POLL_S, _REMIND_S = 2.0, 600.0

_held: list[int] = []  # open, hence locked, until the process ends


def _forget_in_child() -> None:
    # A forked worker that outlives its parent must not keep the parent's GPU.
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget_in_child)


def take_gpus(count: int) -> None:
    """Take ``count`` GPUs for this process until it ends; waits until so many are free.

    With CUDA_VISIBLE_DEVICES set by a scheduler or a user, GPUs are chosen among those. They are
    locked even where it lists no more than ``count``: another job may have been given them too. A
    second call does nothing, and so does a machine without GPUs.

    Raises:
        StudyError: the machine has fewer GPUs.
    """
    if _held or os.environ.get(_TAKEN) or _cuda_has_started():
        return
    given = _given()
    if given is None:
        gpus = gpus_of_machine()
    elif any(name.startswith("MIG-") for name in given):
        gpus = given  # parts of a GPU, which no other spelling names
    else:
        gpus = gpus_of_torch() if given else []
    if not gpus:
        return
    if len(gpus) < count:
        raise StudyError(
            f"runtime.gpus is {count}, but this job can see {len(gpus)}; "
            f"expected at most {len(gpus)}."
        )
    try:
        taken = wait_for_gpus(count, gpus)
    except StudyError as error:
        if len(gpus) > count or given is None:
            raise
        log.warning("the GPUs of CUDA_VISIBLE_DEVICES are used without a lock: %s", error)
        return
    if given is None or len(gpus) > count:
        os.environ[_VISIBLE] = ",".join(taken)
    os.environ[_TAKEN] = str(os.getpid())


def _given() -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES lists; None: it is not set."""
    given = os.environ.get(_VISIBLE)
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def held_locks() -> tuple[int, ...]:
    """File descriptors to hand to processes that work on the same GPUs and may die later."""
    return tuple(_held)


def wait_for_gpus(count: int, gpus: Sequence[str], folder: Path | None = None) -> list[str]:
    """Lock ``count`` of the named GPUs, the first that are free; wait while there are too few.

    There is no limit to the wait: a lock is held by a living process only, and says whose it is.
    """
    folder = folder or FOLDER
    _make_folder(folder)
    told = -_REMIND_S
    while True:
        try:
            taken = _try(count, gpus, folder)
        except OSError as error:
            raise StudyError(
                f"{folder}: {error.strerror or error}; expected a folder where every user of this "
                "machine may lock files, or as many names in CUDA_VISIBLE_DEVICES as runtime.gpus."
            ) from None
        if taken is not None:
            return taken
        if time.monotonic() - told >= _REMIND_S:
            told = time.monotonic()
            log.info("waiting for %d GPU(s); %s", count, "; ".join(_holders(gpus, folder)))
        time.sleep(_POLL_S)


def gpus_of_machine() -> list[str]:
    """Names (``GPU-<uuid>``) of all GPUs, those with most free memory first."""
    command = ["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return gpus_of_torch()
    except subprocess.TimeoutExpired:
        raise StudyError("nvidia-smi gave no answer in 60 s; expected a list of GPUs.") from None
    if answer.returncode:
        said = (answer.stdout + answer.stderr).strip().splitlines()
        log.warning(
            "nvidia-smi ended with exit code %d (%s); PyTorch is asked for GPUs instead",
            answer.returncode,
            said[0] if said else "no message",
        )
        return gpus_of_torch()
    rows = [line.split(",") for line in answer.stdout.splitlines() if line.strip()]
    used = [(_gib(row[1]), row[0].strip()) for row in rows]
    return [name for _, name in sorted(used, key=lambda row: row[0])]


def gpus_of_torch() -> list[str]:
    """Names of the GPUs that PyTorch may use, in its order.

    Asked in another process: here the question itself would fix which GPUs CUDA sees.
    """
    code = (
        "import torch\n"
        "if torch.cuda.is_available():\n"
        "    for i in range(torch.cuda.device_count()):\n"
        "        print(f'GPU-{torch.cuda.get_device_properties(i).uuid}')\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return answer.stdout.split() if answer.returncode == 0 else []


def _gib(mib: str) -> int:
    # Unified memory is reported as "[N/A]".
    return int(mib) // 1024 if mib.strip().isdigit() else 0


def _cuda_has_started() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)  # every user of the machine takes part


def _open(path: Path) -> int:
    # First without creating: in a shared folder the kernel may refuse O_CREAT on others' files.
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        os.fchmod(file, 0o666)  # whatever the umask
        return file


@contextmanager
def _choosing(folder: Path) -> Iterator[None]:
    """One process chooses at a time: two that want all GPUs never hold half of them each."""
    file = _open(folder / "choosing.lock")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _lock_file(gpu: str, folder: Path) -> Path:
    return folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock"


def _try(count: int, gpus: Sequence[str], folder: Path) -> list[str] | None:
    taken: dict[str, int] = {}
    with _choosing(folder):
        for gpu in gpus:
            file = _open(_lock_file(gpu, folder))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            taken[gpu] = file
            if len(taken) == count:
                break
        if len(taken) < count:
            for file in taken.values():
                os.close(file)
            return None
        for file in taken.values():
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} of uid {os.getuid()}".encode(), 0)
    _held.extend(taken.values())
    return list(taken)


def _holders(gpus: Sequence[str], folder: Path) -> list[str]:
    lines = []
    for gpu in gpus:
        path = _lock_file(gpu, folder)
        owner = path.read_text(errors="replace") if path.is_file() else ""
        lines.append(f"{gpu} is or was last taken by {owner or 'nobody'}")
    return lines
