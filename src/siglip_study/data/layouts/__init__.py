"""Layouts of datasets: one file each, named as the layout is; it holds the function ``read``.

Which layouts there are is told from file names, so that adding one edits nothing else.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.config.study import DataConfig
from siglip_study.data.layouts.base import LabelError, LabelKeys, Reader, Scan


def layout_names() -> list[str]:
    """The names that ``data.layout`` may have, sorted."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if name != "base")


def get_layout(name: str) -> Reader:
    """The reader of exactly this name.

    Raises:
        StudyError: there is none, or its file has no function ``read``.
    """
    if name not in layout_names():
        raise StudyError(f"data.layout is '{name}'; expected one of {', '.join(layout_names())}.")
    read: Reader | None = getattr(importlib.import_module(f"{__name__}.{name}"), "read", None)
    if read is None:
        raise StudyError(f"data/layouts/{name}.py has no function read; expected one.")
    return read


def scan_split(data: DataConfig, root: Path, folder: str) -> Scan:
    """What the dataset in ``root`` holds of the split in ``folder``.

    Raises:
        StudyError: no such layout, or the split's files are missing or cannot be read.
    """
    keys = LabelKeys(data.caption_key, data.group_key, data.category_key)
    try:
        return get_layout(data.layout)(root, folder, keys)
    except LabelError as error:
        raise StudyError(f"split '{folder}' of {root}, layout '{data.layout}': {error}.") from error
