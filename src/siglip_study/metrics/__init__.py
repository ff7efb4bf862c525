"""Metrics on captions and embeddings, each ``metrics.<name>(…)``: pure functions under a decorator.

Every file of this package is read for metrics, those of its own first, so a new metric is a new
file (``docs/add-a-metric.md``). Importing loads numpy; tokenizers and models load when first used.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

#: Order of the metrics in tables; those of other files follow.
_FIRST = ("siglip", "grounding", "retrieval", "meteor", "cider", "bertscore", "diversity")

for _module in dict.fromkeys((*_FIRST, *sorted(m.name for m in pkgutil.iter_modules(__path__)))):
    # A leading underscore: no metric, but a file for another library.
    if not _module.startswith("_"):
        importlib.import_module(f"{__name__}.{_module}")

from siglip_study.metrics.base import METRICS  # noqa: E402

# After the files, of which some are named as their metric.
globals().update({_name: _metric.function for _name, _metric in METRICS.items()})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
