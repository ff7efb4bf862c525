"""Plain labels of the page, both languages side by side; templates call ``label`` as ``say``."""

from __future__ import annotations

from typing import Any

from siglip_study.report.language import Text
from siglip_study.report.wording import clips

#: Of all parts of the page together; a part with many has a file and a table of its own here.
FRAME: dict[str, Text] = {
    "skip": Text("Skip to the answer", "결과로 바로 가기"),
    "sections": Text("Parts of the report", "보고서 차례"),
    "part.answer": Text("Answer", "결론"),
    "part.clips": Text("Clips", "영상"),
    "part.evidence": Text("Evidence", "근거"),
    "part.runs": Text("Runs", "학습"),
    "part.reproduce": Text("Reproduce", "재현"),
    "switch.language": Text("한국어", "English"),
    "switch.dark": Text("Dark", "어둡게"),
    "switch.light": Text("Light", "밝게"),
}

LABELS: dict[str, Text] = {**FRAME, **clips.LABELS}


def label(key: str, **figures: Any) -> Text:
    """The label ``key``, filled in.

    Raises:
        KeyError: there is none of this name.
    """
    found = LABELS[key]
    return found.fill(**figures) if figures else found
