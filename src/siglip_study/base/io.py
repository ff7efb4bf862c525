"""Files that appear whole or not at all, and JSON that says which schema it follows."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from siglip_study.base.errors import StudyError

if TYPE_CHECKING:
    import polars as pl


T = TypeVar("T")


def _beside(path: Path) -> Path:
    # The suffix is kept last: some writers choose their format by it.
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; rename it onto ``path`` only if the block succeeds.

    A reader therefore sees the old file, the new file, or none, never half of one.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(target)
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces ``path`` only if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            # Rename cannot replace a folder that is not empty, so the old one steps aside first.
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.replace(old)
            partial.replace(target)
            shutil.rmtree(old)
        else:
            partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_dir(path: str | Path) -> None:
    """Remove a folder, if it is there, so that no half of it is ever found under its name."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path.replace(aside))


def write_json(path: str | Path, obj: dict[str, Any], schema: str) -> None:
    """Write ``obj`` as UTF-8 JSON with ``"schema": schema`` as its first key."""
    with atomic_path(path) as partial:
        whole = {"schema": schema} | obj | {"schema": schema}
        text = json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, schema: str, *older: str) -> dict[str, Any]:
    """Read a JSON object written by :func:`write_json`, with ``schema`` or an ``older`` one.

    Raises:
        StudyError: the file is absent, is not JSON, or follows another schema.
    """
    path = Path(path)
    try:
        obj = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected JSON with schema '{schema}'.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(f"{path}: not JSON ({error}); expected schema '{schema}'.") from None
    found = obj.get("schema") if isinstance(obj, dict) else None
    if found not in (schema, *older):
        raise StudyError(f"{path}: schema is {found!r}; expected '{schema}'.")
    return obj


def read_result(path: str | Path, kind: type[T], schema: str) -> T:
    """Read a frozen dataclass of type ``kind``, written by :func:`write_json` as its ``asdict``.

    Raises:
        StudyError: as :func:`read_json`, or a value is missing or of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    body = read_json(path, schema)
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StudyError(f"{path}: '{where}': {first['msg']} (schema '{schema}').") from None


def write_parquet(path: str | Path, table: pl.DataFrame) -> None:
    """Write a polars table as Parquet, whole or not at all."""
    with atomic_path(path) as partial:
        table.write_parquet(partial)
