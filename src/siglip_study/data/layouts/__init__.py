"""Layouts of datasets: one file each, named as the layout is; it holds the function ``read``.

Which layouts there are is told from file names, so that adding one edits nothing else. A file may
also hold ``KEYS``, where its labels have what the config's keys do not name, and ``UNREAD``, the
names of those keys of the config that it has no use for: giving one is an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from siglip_study.base.errors import StudyError, first_line
from siglip_study.config.study import DataConfig
from siglip_study.data.labels import LabelError, LabelKeys, Reader, Scan, Source, nearest_key
from siglip_study.study.versions import code_hash


def layout_names() -> list[str]:
    """The names that ``data.layout`` may have, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@dataclass(frozen=True)
class ReadableLayout:
    """A reader, where its labels have what the config does not name, and keys it does not read."""

    read: Reader
    keys: LabelKeys
    unread: frozenset[str]


def get_layout(name: str) -> ReadableLayout:
    """The layout of exactly this name.

    ``module:function`` names a reader of one's own, in the working directory or on PYTHONPATH.

    Raises:
        StudyError: there is none, or its file has no function ``read``.
    """
    file = layout_file(name)
    module_name, colon, function = name.partition(":")
    if colon:
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise StudyError(
                f"data.layout is '{name}', and importing {file} raises {type(error).__name__} "
                f"({error}); expected a module that can be imported."
            ) from error
    else:
        module = importlib.import_module(f"{__name__}.{name}")
    reader: Reader | None = getattr(module, function or "read", None)
    if not callable(reader):
        raise StudyError(f"{file} has no function {function or 'read'}; expected one.")
    keys: LabelKeys = getattr(module, "KEYS", LabelKeys())
    return ReadableLayout(reader, keys, getattr(module, "UNREAD", frozenset()))


def reader_code(name: str) -> str | None:
    """Hash of what the file of a reader of one's own does; None for a layout of this package.

    Raises:
        StudyError: there is no such layout, or its file is not Python.
    """
    file = layout_file(name)
    if ":" not in name:
        return None
    try:
        return code_hash([file])
    except (SyntaxError, ValueError) as error:
        raise StudyError(f"{file}: not Python ({error}); data.layout names it.") from None


def layout_file(name: str) -> Path:
    """The file of a layout; StudyError: there is none."""
    module, colon, function = name.partition(":")
    if not colon:
        if name in layout_names():
            return Path(__file__).with_name(f"{name}.py")
        near = nearest_key(name, layout_names())
        hint = f"did you mean '{near}'? Expected" if near else "expected"
        raise StudyError(
            f"data.layout is '{name}'; {hint} one of {', '.join(layout_names())}, or a "
            "module:function of your own."
        )
    # Jobs run as scripts that lie elsewhere, which leaves the working directory out.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    found = None
    if all(part.isidentifier() for part in [*module.split("."), function]):
        with suppress(ImportError, ValueError):
            found = importlib.util.find_spec(module)
    if found is None or found.origin is None or not found.has_location:
        raise StudyError(
            f"data.layout is '{name}'; expected module:function, with a module in the working "
            f"directory {Path.cwd()} or on PYTHONPATH."
        )
    return Path(found.origin)


def source_of(data: DataConfig, root: Path, folder: str, keys: LabelKeys) -> Source:
    """What a reader is asked for the split in ``folder``; ``keys`` are those of its layout."""
    named = {
        field.name: value
        for field in fields(LabelKeys)
        if (value := getattr(data, f"{field.name}_key")) is not None
    }
    return Source(
        root=root,
        folder=folder,
        keys=replace(keys, **named),
        given=frozenset(named),
        video_folder=data.video_folder,
        label_folder=data.label_folder,
        ignored=frozenset(data.ignore_keys),
        follow_links=data.follow_links,
    )


def scan_split(data: DataConfig, root: Path, folder: str) -> Scan:
    """What the dataset in ``root`` holds of the split in ``folder``.

    Raises:
        StudyError: no such layout, the config gives a key that it does not read, the split's files
            are missing or cannot be read, or a reader of one's own fails.
    """
    layout = get_layout(data.layout)
    for name in sorted(layout.unread):
        if getattr(data, name):
            raise StudyError(
                f"data.{name} is {getattr(data, name)!r}, and the layout '{data.layout}' does not "
                "read it; expected it absent."
            )
    try:
        scan = layout.read(source_of(data, root, folder, layout.keys))
        if not isinstance(scan, Scan):
            raise TypeError(f"it gives a {type(scan).__name__}")
    except LabelError as error:
        raise StudyError(f"split '{folder}' of {root}, layout '{data.layout}': {error}.") from error
    except Exception as error:
        if ":" not in data.layout or isinstance(error, StudyError):
            raise
        told = f"{type(error).__name__}: {first_line(error)}"
        raise StudyError(
            f"data.layout '{data.layout}' fails on split '{folder}' of {root} ({told}); expected a "
            "function of a Source that gives a Scan."
        ) from error
    return scan
