"""Where tensors live, with how many threads the CPU works, and which GPU is whose."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout

from siglip_study.base import kept
from siglip_study.base.errors import StudyError
from siglip_study.config.study import RuntimeConfig

log = logging.getLogger(__name__)

# ---- GPUs that a process keeps to itself, so that concurrent jobs of a machine do not meet on one.
# A GPU is taken by locking a file named after it, before CUDA starts in the process, and made the
# only one that CUDA sees. The kernel drops the lock with the process, however it dies.

# One folder a machine, whoever runs and whatever TMPDIR says.
FOLDER = Path("/tmp/siglip-study-gpus")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
# Says to processes started by the holder that what they see is theirs.
_TAKEN = "SIGLIP_STUDY_GPUS_TAKEN"
_POLL_S, _REMIND_S = 1.0, 600.0
_WAITING = "waiting.lock"

_held: list[FileLock] = []  # until the process ends; a fork forgets them


def take_gpus(count: int) -> None:
    """Take ``count`` GPUs for this process until it ends; waits until so many are free.

    With CUDA_VISIBLE_DEVICES set by a scheduler or a user, GPUs are chosen among those. They are
    locked even where it lists no more than ``count``: another job may have been given them too. A
    second call does nothing, and so does a machine without GPUs.

    Raises:
        StudyError: the machine has fewer GPUs.
    """
    if _held or os.environ.get(_TAKEN) or torch.cuda.is_initialized():
        return
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        gpus = gpus_of_machine()
    else:
        gpus = [name.strip() for name in visible.split(",") if name.strip()]
        if gpus and not any(name.startswith("MIG-") for name in gpus):
            gpus = gpus_of_torch()  # by names that all jobs share; parts of a GPU have no other
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
        if len(gpus) > count or visible is None:
            raise
        log.warning("the GPUs of CUDA_VISIBLE_DEVICES are used without a lock: %s", error)
        return
    if visible is None or len(gpus) > count:
        os.environ[_VISIBLE] = ",".join(taken)
    os.environ[_TAKEN] = str(os.getpid())


def wait_for_gpus(count: int, gpus: Sequence[str], folder: Path | None = None) -> list[str]:
    """Lock ``count`` of the named GPUs, the first that are free; wait while there are too few.

    There is no limit to the wait: a lock is held by a living process only.
    """
    folder = folder or FOLDER
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)  # every user of the machine takes part
    told = -_REMIND_S
    waiting: BinaryIO | None = None
    while True:
        try:
            taken = _try(count, gpus, folder)
            if taken is None and waiting is None:
                waiting = _say_waiting(folder)
        except OSError as error:
            raise StudyError(
                f"{folder}: {error.strerror or error}; expected a folder where every user of this "
                "machine may lock files, or as many names in CUDA_VISIBLE_DEVICES as runtime.gpus."
            ) from None
        if taken is not None:
            if waiting is not None:
                waiting.close()
            kept.given_up_if(lambda: gpu_is_wanted(folder))
            return taken
        if time.monotonic() - told >= _REMIND_S:
            told = time.monotonic()
            holders = "; ".join(
                f"{gpu} is or was last taken by {_owner(gpu, folder) or 'nobody'}" for gpu in gpus
            )
            log.info("waiting for %d GPU(s); %s", count, holders)
        time.sleep(_POLL_S)


def _say_waiting(folder: Path) -> BinaryIO:
    """Hold, with others that wait, the lock by which idle holders see that somebody does."""
    path = folder / _WAITING
    # Not created anew where it is: in a shared folder the kernel may refuse that for others' files.
    descriptor = os.open(path, os.O_RDWR if path.exists() else os.O_RDWR | os.O_CREAT, 0o666)
    file = os.fdopen(descriptor, "rb+")
    with contextlib.suppress(PermissionError):
        path.chmod(0o666)  # whatever the umask; only its owner may
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def gpu_is_wanted(folder: Path | None = None) -> bool:
    """Whether a process of this machine, of any user, waits for a GPU."""
    path = (folder or FOLDER) / _WAITING
    if not path.is_file():
        return False
    with path.open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
        said = [*(answer.stdout + answer.stderr).strip().splitlines(), "no message"]
        log.warning(
            "nvidia-smi ended with exit code %d (%s); PyTorch is asked for GPUs instead",
            *(answer.returncode, said[0]),
        )
        return gpus_of_torch()
    used_gib: dict[str, int] = {}
    for line in filter(str.strip, answer.stdout.splitlines()):
        name, mib = (part.strip() for part in line.split(","))
        used_gib[name] = int(mib) // 1024 if mib.isdigit() else 0  # unified memory is "[N/A]"
    return sorted(used_gib, key=lambda name: used_gib[name])


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


def _lock(path: Path, **options: Any) -> FileLock:
    # Any thread may end the process's hold; every user may lock, whatever the umask.
    return FileLock(path, mode=0o666, thread_local=False, fallback_to_soft=False, **options)


def _lock_file(gpu: str, folder: Path) -> Path:
    return folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock"


def _owner(gpu: str, folder: Path) -> str:
    path = _lock_file(gpu, folder)
    return path.read_text(errors="replace") if path.is_file() else ""


def _try(count: int, gpus: Sequence[str], folder: Path) -> list[str] | None:
    """All of ``count`` GPUs or none; one process chooses at a time: two never hold half each."""
    taken: dict[str, FileLock] = {}
    with _lock(folder / "choosing.lock"):
        for gpu in gpus:
            lock = _lock(_lock_file(gpu, folder), blocking=False)
            try:
                lock.acquire()
            except Timeout:
                continue
            taken[gpu] = lock
            if len(taken) == count:
                break
        if len(taken) < count:
            for lock in taken.values():
                lock.release()
            return None
        for gpu in taken:
            # Not created anew: in a shared folder the kernel may refuse that for others' files.
            with _lock_file(gpu, folder).open("r+") as file:
                file.write(f"process {os.getpid()} of uid {os.getuid()}")
                file.truncate()
    _held.extend(taken.values())
    return list(taken)


# ---- Device and memory of a job.

#: Share of free GPU memory that is planned with; fragments and kernels' workspaces take the rest.
USABLE = 0.94


def device_of(runtime: RuntimeConfig, gpus: int = 1) -> torch.device:
    """The device of a job, with the threads that the config gives it; see :func:`pick_device`."""
    return pick_device(runtime.device, gpus, runtime.cpu_threads)


def pick_device(
    choice: str | torch.device, gpus: int = 1, threads: int | None = None
) -> torch.device:
    """The device of a job; ``auto`` is a GPU if there is one.

    Every job on a GPU comes by here before CUDA starts: it takes ``gpus`` GPUs of the machine to
    itself and sees no other.

    On the CPU, torch takes ``threads`` threads, at most as many as the process may use cores,
    shared by ``gpus`` processes. Snakemake sets OMP_NUM_THREADS to the threads of a rule, 1 under
    ``--cores 1``: that bounds how many jobs run, and must not slow down the one that does.

    Raises:
        StudyError: a GPU is asked for where there is none, or more than there are.
    """
    wants_gpu = choice == "auto" or torch.device(choice).type == "cuda"
    if wants_gpu and (torch.version.cuda or torch.version.hip):
        take_gpus(gpus)
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(choice)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise StudyError(
                "runtime.device is cuda, but PyTorch sees no GPU; expected auto or cpu."
            )
        if (seen := torch.cuda.device_count()) < gpus:
            raise StudyError(
                f"runtime.gpus is {gpus}, but this job can see {seen}; expected at most {seen}."
            )
    if device.type == "cpu":
        # More threads than cores would wait for each other.
        share = max(1, len(os.sched_getaffinity(0)) // gpus)
        torch.set_num_threads(min(threads or share, share))
    return device


def limit_memory(device: torch.device, memory_gb: float | None) -> None:
    """Bind PyTorch's allocator to ``memory_gb`` GiB: past them a job fails as on a smaller GPU."""
    if memory_gb is not None and device.type == "cuda":
        # Only a device with an index is taken.
        index = torch.cuda.current_device() if device.index is None else device.index
        total = torch.cuda.get_device_properties(index).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory_gb * 2**30 / total), index)


def free_bytes(device: torch.device, memory_gb: float | None) -> int:
    """Bytes a job may still fill on a GPU: what is free or cached, within its own limit (GiB)."""
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_allocated(device)
    room = free + torch.cuda.memory_reserved(device) - held
    if memory_gb is not None:
        room = min(room, int(memory_gb * 2**30) - held)
    return max(0, room)


def single(device: torch.device) -> Accelerator:
    """The accelerator of a job of one process: bf16 autocast on a GPU, fp32 on the CPU.

    bf16 is slower on most CPUs.
    """
    on_cpu = device.type == "cpu"
    return Accelerator(cpu=on_cpu, mixed_precision="no" if on_cpu else "bf16")
