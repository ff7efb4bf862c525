"""Truth in the demo: what captions say of the facts of a world that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any


def truth_of(captions: Sequence[str], facts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """κ per attribute with its interval: ``{attribute: {kappa, low, high, accuracy, …}}``."""
    from siglip_study.demo.facts import kappa, parse_facts

    said = [parse_facts(caption) for caption in captions]
    true = [dict(row) for row in facts]
    return {attribute: asdict(kappa(said, true, attribute)) for attribute in true[0]}
