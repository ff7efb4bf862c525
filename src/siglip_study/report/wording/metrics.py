"""Metrics in words: short names, and the Korean of what the code says of them in English."""

from __future__ import annotations

import re

from siglip_study.metrics import METRICS
from siglip_study.report.language import Text, texts, written

#: Names of the measures that stand in figures and sentences.
NAMES = texts("metrics")

#: Metric → its definition in Korean; in English it is the metric's own description.
DEFINITIONS = written("ko")["definitions"]

#: Kinds of tokens, why a metric has no value, why a clip was left out: as the files name them.
_KOREAN = written("ko")["as_written"]
_KNOWN = re.compile(rf"\b({'|'.join(sorted(_KOREAN, key=len, reverse=True))})\b")


def definition(metric: str, english: str) -> Text:
    """What a metric is; ``english`` as the tables have it, alone where the metric is not ours."""
    if metric not in METRICS or metric not in DEFINITIONS:
        return Text.same(english)
    return Text(english, DEFINITIONS[metric])


def as_written(english: str) -> Text:
    """A kind of token or a reason, as a file has it, with the Korean of what is known of it."""
    return Text(english, _KNOWN.sub(lambda found: _KOREAN[found.group()], english))
