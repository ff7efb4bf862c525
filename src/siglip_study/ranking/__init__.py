"""From per-clip margins to a ranking that says no more than the data allow: gate, tests, ranks.

For notebooks: ``ranking.rank({projector: margins [S, n]})``. What it returns is data alone;
``report.wording`` makes sentences of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siglip_study.ranking.procedure import Ranking, rank

__all__ = ["Ranking", "rank"]

#: Raise it when the same scores give another selection, or ``selection.json`` another form.
VERSION = 4

#: Raise it when the scorer check gives other figures, or its file another form.
CHECK_VERSION = 4


def __getattr__(name: str) -> Any:
    if name not in __all__:  # loaded when asked for: the workflow reads the numbers alone
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from siglip_study.ranking import procedure

    return getattr(procedure, name)
