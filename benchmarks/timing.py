"""Seconds and peak memory of a piece of work, and the matmul rate it is measured against."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

GIB = 2**30


@dataclass(frozen=True)
class Timing:
    """Seconds of each timed run, and the peak of allocated GPU memory over them (None: CPU)."""

    runs: tuple[float, ...]
    peak_gib: float | None

    @property
    def seconds(self) -> float:
        """Median."""
        return median(self.runs)


def measure(
    work: Callable[[int], object], device: torch.device, *, warmup: int, repeats: int
) -> Timing:
    """Time ``work(i)`` for i counted on from the warm-up; the GPU is waited for on both ends."""
    for i in range(warmup):
        work(i)
    # The allocator's cache stays: a timed run must not wait for memory that the warm-up had.
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    runs = []
    for i in range(warmup, warmup + repeats):
        synchronize(device)
        began = time.perf_counter()
        work(i)
        synchronize(device)
        runs.append(time.perf_counter() - began)
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) / GIB if on_gpu else None
    return Timing(tuple(runs), peak)


def free(device: torch.device) -> None:
    """Give unused memory back and start a new peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def synchronize(device: torch.device) -> None:
    """Wait for the GPU, where there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, n: int) -> float:
    """TFLOP/s of an ``n × n × n`` product of random matrices: bf16 on a GPU, fp32 on the CPU.

    Random, since a GPU's clock falls with the bits that flip: zeros would flatter it.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    many = 20 if device.type == "cuda" else 1

    def work(_: int) -> None:
        for _ in range(many):
            torch.mm(a, b)

    return many * 2 * n**3 / measure(work, device, warmup=2, repeats=5).seconds / 1e12


def describe(device: torch.device) -> str:
    """The GPU's name, or that it was the CPU and with how many threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
