"""Projectors: from frozen vision features to tokens in the language model's width.

One file per projector, named as the projector is. This package is cheap to import: listing names
reads file names only, and torch is imported when a projector is looked up.
"""

from siglip_study.projectors.registry import (
    build_projector,
    check_options,
    projector_class,
    projector_code,
    projector_names,
    projector_options,
    register,
    register_all,
)

__all__ = [
    "build_projector",
    "check_options",
    "projector_class",
    "projector_code",
    "projector_names",
    "projector_options",
    "register",
    "register_all",
]
