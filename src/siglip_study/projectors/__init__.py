"""Projectors: from frozen vision features to tokens in the language model's width.

One file per projector, named as the projector is. This package is cheap to import: listing names
reads file names only, and torch is imported when a projector is looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siglip_study.projectors.registry import (
    build,
    check_options,
    projector_class,
    projector_code,
    projector_names,
    projector_options,
    register,
)

if TYPE_CHECKING:
    from siglip_study.projectors.base import FeatureShape

__all__ = [
    "FeatureShape",
    "build",
    "check_options",
    "projector_class",
    "projector_code",
    "projector_names",
    "projector_options",
    "register",
]


def __getattr__(name: str) -> Any:
    if name != "FeatureShape":  # its module imports torch
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from siglip_study.projectors.base import FeatureShape

    return FeatureShape
