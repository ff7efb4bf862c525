"""Where tensors live, and with how many threads the CPU works."""

from __future__ import annotations

import os

import torch

from siglip_study.errors import StudyError


def pick_device(choice: str | torch.device) -> torch.device:
    """The device of a job; ``auto`` is a GPU if there is one.

    On the CPU, torch takes as many threads as the process may use cores. Snakemake sets
    OMP_NUM_THREADS to the threads of a rule, 1 under ``--cores 1``: that bounds how many jobs run,
    and must not slow down the one that does.

    Raises:
        StudyError: a GPU is asked for where there is none.
    """
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(choice)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise StudyError("runtime.device is cuda, but PyTorch sees no GPU; expected auto or cpu.")
    if device.type == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    return device
