"""Processes of the workflow's jobs, and waiting for what becomes of them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait(condition: Callable[[], T], seconds: float = 300) -> T:
    """Wait until a condition holds; its value."""
    until = time.monotonic() + seconds
    while not (met := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
    return met


def job_processes(folder: Path) -> list[int]:
    """Processes of a job's script that was started in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            inside = (entry / "cwd").resolve() == folder
        except OSError:
            continue  # it ended while we looked
        if inside and b"python" in words[0] and any(b"/scripts/" in word for word in words[1:]):
            found.append(int(entry.name))
    return found
