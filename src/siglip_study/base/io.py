"""Files that appear whole or not at all, and JSON that says which schema it follows."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from siglip_study.base.errors import Damaged, StudyError, first_line

if TYPE_CHECKING:
    import polars as pl


T = TypeVar("T")


def _beside(path: Path, kind: str = "partial") -> Path:
    """A name beside ``path`` that is this process's own; what dead ones of this host left goes.

    The suffix is kept last: some writers choose their format by it.
    """
    own = f".{path.stem}.{os.uname().nodename}."
    for left in path.parent.glob(f"{glob.escape(own)}*.*{glob.escape(path.suffix)}"):
        process = left.name.removeprefix(own).split(".")[0]
        if process.isdigit() and not _lives(int(process)):
            drop(left)
    return path.with_name(f"{own}{os.getpid()}.{kind}{path.suffix}")


def sweep_partials(path: str | Path) -> None:
    """Remove what killed writers of ``path`` left beside it, on whatever host they were.

    For who alone writes it now: a partial file of a living process goes as well.
    """
    path = Path(path)
    for kind in ("partial", "removed"):
        for left in path.parent.glob(
            f".{glob.escape(path.stem)}.*.{kind}{glob.escape(path.suffix)}"
        ):
            drop(left)


def drop(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk: a rename must not overtake what it names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; rename it onto ``path`` only if the block succeeds.

    A reader therefore sees the old file, the new file, or none, never half of one, even after the
    power fails.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(target)
    try:
        yield partial
        sync(partial)
        digest_of(target).unlink(missing_ok=True)  # of what was there before
        partial.replace(target)
        sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces ``path`` only if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(target)
    drop(partial)
    partial.mkdir()
    try:
        yield partial
        for written in (*partial.rglob("*"), partial):
            sync(written)
        # Rename cannot replace a folder that is not empty, so the old one steps aside first.
        remove_dir(target)
        partial.replace(target)
        sync(target.parent)
    finally:
        drop(partial)


def remove_dir(path: str | Path) -> None:
    """Remove a folder, if it is there, so that no half of it is ever found under its name.

    Another process may do the same at the same time.
    """
    path = Path(path)
    aside = _beside(path, "removed")
    with contextlib.suppress(FileNotFoundError):  # nothing there, or somebody else was faster
        path.replace(aside)
    drop(aside)


def set_aside(path: Path) -> Path:
    """Take what is damaged out of the way of what will be made anew; where it lies then."""
    aside = path.with_name(f".{path.name}.damaged")
    if path.exists():  # else another job has been faster
        drop(aside)
        with contextlib.suppress(FileNotFoundError):
            path.replace(aside)
    digest_of(path).unlink(missing_ok=True)
    return aside


# ---- Digests. Beside a finished file lies the SHA-256 of what was written, which its readers hold
# against it: disks turn bits, copies are cut, and a study would be ranked by them.


def digest_of(path: Path) -> Path:
    """Where a file's digest lies."""
    return path.with_name(f".{path.name}.sha256")


def write_digest(path: str | Path) -> None:
    """Record what a finished file holds."""
    digest_of(Path(path)).write_text(f"{file_digest(path)}\n", encoding="ascii")


def check_digest(path: str | Path) -> None:
    """Hold a file against its recorded digest; nothing where there is none, as of older studies.

    Raises:
        Damaged: it holds something else.
    """
    path = Path(path)
    recorded = digest_of(path)
    if not (recorded.is_file() and path.is_file()):
        return
    written = recorded.read_bytes().strip().decode("ascii", "replace")
    if len(written) == 64 and written != file_digest(path):  # else it is itself half a file
        raise Damaged(f"{path}: damaged", path)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, as hex.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


#: Of a large file, so many pieces of so many bytes are read, first and last among them.
_PIECES, _PIECE = 10, 2**16


def sampled_digest(path: Path) -> str:
    """32 hex digits of a file's size and of ten pieces of it; "" where there is none to read.

    Files of one digest may differ still; files of two do.
    """
    size = file_size(path)
    if size < 0:
        return ""
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place in range(_PIECES):
            file.seek(max(0, (size - _PIECE) * place // (_PIECES - 1)))
            digest.update(file.read(_PIECE))
            if size <= _PIECE:
                break
    return digest.hexdigest()[:32]


def file_size(path: Path) -> int:
    """Bytes of a file; -1 where there is none that can be looked at."""
    with contextlib.suppress(OSError):
        about = path.stat()
        return about.st_size if stat.S_ISREG(about.st_mode) else -1
    return -1


def file_digests(folder: Path) -> dict[str, str]:
    """Relative name → SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def write_json(path: str | Path, obj: dict[str, Any], schema: str) -> None:
    """Write ``obj`` as UTF-8 JSON with ``"schema": schema`` as its first key."""
    with atomic_path(path) as partial:
        whole = {"schema": schema} | obj | {"schema": schema}
        text = json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, schema: str, *older: str) -> dict[str, Any]:
    """Read a JSON object written by :func:`write_json`, with ``schema`` or an ``older`` one.

    Raises:
        Damaged: the file is damaged or not JSON.
        StudyError: it is absent or follows another schema.
    """
    path = Path(path)
    check_digest(path)
    try:
        obj = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected JSON with schema '{schema}'.") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting past Python's limits, too
        raise Damaged(f"{path}: not JSON of schema '{schema}' ({error})", path) from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}).") from None
    found = obj.get("schema") if isinstance(obj, dict) else None
    if found not in (schema, *older):
        raise StudyError(f"{path}: schema is {found!r}; expected '{schema}'.")
    return obj


def read_index(path: Path, schema: str, *older: str) -> dict[str, Any]:
    """As :func:`read_json`, of the file that tells of a folder that is made as one.

    Raises:
        StudyError: as there; of a file that is absent or damaged, the folder is.
    """
    try:
        if path.is_file():
            return read_json(path, schema, *older)
    except Damaged:
        raise Damaged(f"{path}: damaged", path.parent) from None
    raise Damaged(f"{path}: missing", path.parent)


def read_result(path: str | Path, kind: type[T], schema: str, *older: str) -> T:
    """Read a dataclass of type ``kind``, written by :func:`write_json` as its ``asdict``.

    Raises:
        StudyError: as :func:`read_json`, or a value is missing or of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    body = read_json(path, schema, *older)
    try:
        return TypeAdapter(kind).validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        found = f"{path}: '{where}': {first['msg']} (schema '{schema}')"
        raise Damaged(found, Path(path)) from None


def read_parquet(
    path: str | Path | Sequence[str], columns: list[str] | None = None
) -> pl.DataFrame:
    """A Parquet table, or some columns of it; of several files, their rows one after the other.

    Raises:
        StudyError: it is absent or damaged, or lacks a column.
    """
    import polars as pl

    if not isinstance(path, str | Path):
        return pl.concat([read_parquet(own, columns) for own in path])
    check_digest(path)
    try:
        return pl.read_parquet(path, columns=columns)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected a Parquet table.") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise Damaged(f"{path}: damaged ({first_line(error)})", Path(path)) from None


def write_parquet(path: str | Path, table: pl.DataFrame) -> None:
    """Write a polars table as Parquet, whole or not at all."""
    with atomic_path(path) as partial:
        table.write_parquet(partial)
