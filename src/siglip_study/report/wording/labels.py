"""Plain labels of the page; templates call :func:`label` as ``say``."""

from __future__ import annotations

from typing import Any

from siglip_study.report.language import Text, texts

#: What the Clips part says, which its script reads as well.
CLIPS = texts("clips")
LABELS = {**texts("labels"), **texts("charts"), **CLIPS}


def label(key: str, **figures: Any) -> Text:
    """The label ``key``, filled in.

    Raises:
        KeyError: there is none of this name.
    """
    found = LABELS[key]
    return found.fill(**figures) if figures else found
