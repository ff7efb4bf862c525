"""Where frozen models run."""

from __future__ import annotations

import os

import torch


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is a GPU if there is one.

    On the CPU, torch takes as many threads as the process may use cores: a job that Snakemake
    started with ``--cores 1`` is the only one, and is not meant to run on one thread.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = torch.device(device)
    if found.type == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    return found
