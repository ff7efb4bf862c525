"""Where tensors live, and with how many threads the CPU works."""

from __future__ import annotations

import os
from typing import Literal

import torch

from siglip_study.errors import StudyError


def pick_device(choice: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of a job; on the CPU, also as many threads as the process may use.

    Snakemake sets OMP_NUM_THREADS to a rule's threads, 1 under ``--cores 1``. That bounds how many
    jobs run at once, and must not slow down the only one that does: threads follow CPU affinity.

    Raises:
        StudyError: a GPU is asked for where there is none.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise StudyError("runtime.device is cuda, but PyTorch sees no GPU; expected auto or cpu.")
    if choice != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return torch.device("cpu")
