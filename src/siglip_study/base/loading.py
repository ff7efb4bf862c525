"""Importing large libraries without the garbage collector."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import with the garbage collector off, and leave what the modules hold out of its sight.

    torch, transformers and peft are 800,000 objects that live as long as the process. Searching
    them for garbage again and again, most of all while Python ends, takes a third of a job's start.

    Only for imports: garbage of the block is never freed, so no model may be built inside.
    """
    was_on, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if was_on:
            gc.enable()
