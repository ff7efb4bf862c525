"""Where tensors live, and with how many threads the CPU works."""

from __future__ import annotations

import os

import torch

from siglip_study.base.errors import StudyError
from siglip_study.models.gpu_lease import take_gpus

#: Share of free GPU memory that is planned with; fragments and kernels' workspaces take the rest.
USABLE = 0.94


def pick_device(choice: str | torch.device, gpus: int = 1) -> torch.device:
    """The device of a job; ``auto`` is a GPU if there is one.

    Every job on a GPU comes by here before CUDA starts: it takes ``gpus`` GPUs of the machine to
    itself and sees no other (see ``gpu_lease``).

    On the CPU, torch takes as many threads as the process may use cores, shared by ``gpus``
    processes. Snakemake sets OMP_NUM_THREADS to the threads of a rule, 1 under ``--cores 1``: that
    bounds how many jobs run, and must not slow down the one that does.

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
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // gpus))
    return device


def limit_memory(device: torch.device, memory_gb: float | None) -> None:
    """Bind PyTorch's allocator to ``memory_gb`` GiB: past them a job fails as on a smaller GPU."""
    if memory_gb is not None and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory_gb * 2**30 / total), device)


def free_bytes(device: torch.device, memory_gb: float | None) -> int:
    """Bytes a job may still fill on a GPU: what is free or cached, within its own limit (GiB)."""
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_allocated(device)
    room = free + torch.cuda.memory_reserved(device) - held
    if memory_gb is not None:
        room = min(room, int(memory_gb * 2**30) - held)
    return max(0, room)
