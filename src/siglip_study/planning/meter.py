"""A stopwatch and a memory gauge around a piece of work."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from siglip_study.base.errors import StudyError
from siglip_study.planning.rows import GIB, Cost


def wait(device: torch.device) -> None:
    """Let a GPU finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Meter:
    """What a block cost; ``seconds`` is set within it."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.gib: float | None = None
        self.problem: str | None = None

    @property
    def cost(self) -> Cost:
        """What was found."""
        return Cost(self.seconds, self.gib, self.problem)


@contextmanager
def measured(device: torch.device) -> Iterator[Meter]:
    """Note the peak of GPU memory; running out of it is a finding, not an end."""
    meter = Meter()
    on_gpu = device.type == "cuda"
    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        yield meter
    except torch.cuda.OutOfMemoryError:
        meter.problem = "does not fit this GPU's memory"
    except StudyError as error:
        # The memory plan says so in its own words.
        if "memory" not in str(error):
            raise
        meter.problem = str(error)
    finally:
        if on_gpu:
            meter.gib = torch.cuda.max_memory_allocated(device) / GIB
