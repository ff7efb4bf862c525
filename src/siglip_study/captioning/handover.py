"""Captions made right after training, while the model was loaded, until their job asks for them.

They lie outside the declared outputs under a key of everything they depend on, so a changed token
budget finds nothing here and captions are made anew from the checkpoint. Nothing heavy is imported:
taking them costs no model and no GPU.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from siglip_study.captioning import VERSION
from siglip_study.config.study import CaptionConfig
from siglip_study.study.cells import Cell
from siglip_study.study.paths import Paths

_FILES = ("captions.json", "losses.parquet")


def handover_folder(
    paths: Paths, cell: Cell, checkpoint: Path, settings: CaptionConfig, version: int = VERSION
) -> Path:
    """Where they lie, by what they depend on: weights, run, splits, settings and the code."""
    weights = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(checkpoint.rglob("*.safetensors"))
    ]
    chosen = settings.model_dump(exclude={"batch_size"})
    key = [cell.name, *cell.captioned, json.dumps(chosen), weights, version]
    return paths.handover(cell.name, key)


def take_handover(handover: Path, out: Path) -> bool:
    """Move captions to where their job declares them; whether there were any."""
    if not all((handover / name).is_file() for name in _FILES):
        return False
    out.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        (handover / name).replace(out / name)
    shutil.rmtree(handover)
    return True
