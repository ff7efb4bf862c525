"""A run as a folder of its own: what it consists of, wherever it came from.

``siglip_study.report.export`` makes one, and a repository of the hub holds one. What is not named
here is neither saved, sent nor fetched: never a pickle, never code.
"""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_dir, read_json
from siglip_study.config.loading import error_sentence
from siglip_study.study.cells import RunSpec

#: What stands beside ``checkpoint/`` and ``models/``.
_FILES = ("README.md", "cell.json", "config.yaml", "preprocessing.json")
_SUFFIXES = (".json", ".jinja", ".md", ".model", ".safetensors", ".txt")
#: What is taken of a model's folder.
MODEL_FILES = (*(f"*{suffix}" for suffix in _SUFFIXES), "LICENSE*", "LICENCE*", "NOTICE*")
#: Of an exported run's folder, by paths within it.
FILES = (
    *_FILES,
    *(f"checkpoint/*{suffix}" for suffix in _SUFFIXES),
    *(f"models/*/{name}" for name in MODEL_FILES),
)


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file's name is among those wanted."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def read_run(folder: Path) -> tuple[dict[str, Any], RunSpec]:
    """``cell.json`` of a run, and what it says that the run is made of.

    Raises:
        StudyError: it is not there, is damaged, or tells of no run of this version.
    """
    path = folder / "cell.json"
    cell = read_json(path, "cell/1")
    try:
        return cell, RunSpec.model_validate(cell.get("run"))
    except ValidationError as error:
        raise StudyError(error_sentence(error.errors()[0], f"{path}: run", RunSpec)) from None


def require_export(folder: Path) -> None:
    """Say that a folder is no exported run, as a study's own run folder is none.

    Raises:
        StudyError: files of an export are missing.
    """
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise StudyError(
            f"{folder}: has no {missing[0]}, so it is no exported run; expected what this makes: "
            f"python -m siglip_study.report.export {folder} <a new folder>"
        )


def copy_export(folder: Path, out: Path) -> None:
    """Copy an exported run.

    Raises:
        StudyError: it is none, or ``out`` is there.
    """
    require_export(folder)
    if out.exists():
        raise StudyError(f"{out}: is there already; expected a folder that is not there yet.")
    with atomic_dir(out) as partial:
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and fits(name, FILES):
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, partial / name)
