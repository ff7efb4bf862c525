"""Batched greedy captioning of clips, and the losses of their references.

All prompts of a cell have one length, so keys and values lie in one dense block without padding or
mask, a batch takes as many clips as memory holds, and rows that have ended leave it. All start
together: there is no expected length to sort by. vLLM could take the same prompts, but it loads the
model a second time beside the one just trained, its kernels would make captions differ from those
of the checked path, and at the hundred equal prompts of a cell it has no idle row to fill.

For notebooks: ``captioning.VideoCaptioner(run)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siglip_study.captioning.video_captioner import VideoCaptioner

__all__ = ["VideoCaptioner"]

#: Raise it when captions or losses of the same checkpoint come out otherwise.
VERSION = 1


def __getattr__(name: str) -> Any:
    if name != "VideoCaptioner":  # its module imports torch
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from siglip_study.captioning.video_captioner import VideoCaptioner

    return VideoCaptioner
