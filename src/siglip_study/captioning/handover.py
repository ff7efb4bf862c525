"""Captions made right after training, while the model was loaded, until their job asks for them.

They lie outside the declared outputs under a key of everything they depend on, so a changed token
budget finds nothing here and captions are made anew from the checkpoint. Nothing heavy is imported:
taking them costs no model and no GPU.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.base.io import (
    atomic_dir,
    file_digest,
    file_digests,
    read_json,
    remove_dir,
    write_json,
)
from siglip_study.captioning import VERSION
from siglip_study.config.study import CaptionConfig
from siglip_study.study.cells import Cell
from siglip_study.study.paths import Paths

log = logging.getLogger(__name__)

_FILES = ("captions.json", "losses.parquet")
_INDEX, _SCHEMA = "handover.json", "handover/1"


def handover_folder(
    paths: Paths,
    cell: Cell,
    checkpoint: Path,
    clips: Mapping[str, Path],
    features: Mapping[str, Path],
    settings: CaptionConfig,
    version: int = VERSION,
) -> Path:
    """Where they lie, by what they depend on: weights, clips, features, run, settings and code.

    ``clips`` and ``features`` are those of splits, train and what the cell captions among them.
    """
    weights = [file_digest(path) for path in sorted(checkpoint.rglob("*.safetensors"))]
    shown = [file_digest(features[split] / "index.json") for split in ("train", *cell.captioned)]
    shown += [file_digest(clips[split]) for split in cell.captioned]
    chosen = settings.model_dump(exclude={"batch_size"})
    key = [cell.name, *cell.captioned, json.dumps(chosen), weights, shown, version]
    return paths.handover(cell.name, key)


@contextmanager
def hand_over(folder: Path) -> Iterator[Path]:
    """Yield an empty folder for the captions' files; it appears whole, with their digests."""
    with atomic_dir(folder) as partial:
        yield partial
        write_json(partial / _INDEX, {"files": file_digests(partial)}, _SCHEMA)


def take_handover(handover: Path, out: Path) -> bool:
    """Move captions to where their job declares them; whether there were any.

    Damaged ones are dropped, with a line in the log.
    """
    if not handover.is_dir():
        return False
    try:
        wanted = read_json(handover / _INDEX, _SCHEMA).get("files")
        whole = {name: file_digest(handover / name) for name in _FILES} == wanted
    except (StudyError, OSError):
        whole = False
    if whole:
        out.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            (handover / name).replace(out / name)
    else:
        log.warning("%s: damaged; its captions are made anew from the checkpoint", handover)
    remove_dir(handover)
    return whole
