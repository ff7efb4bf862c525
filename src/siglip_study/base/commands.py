"""How a command of this package ends: with 0, or with a user's mistake in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable

from siglip_study.base.errors import StudyError


def exit_status(work: Callable[[], int | None]) -> int:
    """Run ``work``; its own status, 0 for none, or 1 with the sentence on standard error."""
    try:
        return work() or 0
    except StudyError as error:
        print(f"siglip-study: {error}", file=sys.stderr)
        return 1
