"""Ids, not positions, join tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from siglip_study.base.errors import StudyError

_SHOWN = 5


def _some(ids: Iterable[str]) -> str:
    names = sorted(ids)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def check_unique_ids(ids: Iterable[str], what: str) -> None:
    """Refuse an id that occurs twice.

    Raises:
        StudyError: naming ``what`` and the ids that repeat.
    """
    repeated = [name for name, times in Counter(ids).items() if times > 1]
    if repeated:
        raise StudyError(f"{what} repeats the clip ids {_some(repeated)}; expected each id once.")


def check_same_ids(a: Iterable[str], b: Iterable[str], what_a: str, what_b: str) -> None:
    """Refuse two inputs whose sets of ids differ; their order may differ.

    Raises:
        StudyError: naming both inputs and the ids that only one of them has, or that repeat.
    """
    a, b = list(a), list(b)
    check_unique_ids(a, what_a)
    check_unique_ids(b, what_b)
    differing = ((what_a, set(a) - set(b)), (what_b, set(b) - set(a)))
    parts = [f"only {what} has {_some(only)}" for what, only in differing if only]
    if parts:
        told = "; ".join(parts)
        raise StudyError(f"{what_a} and {what_b} must hold the same clip ids, but {told}.")
