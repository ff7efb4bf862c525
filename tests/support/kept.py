"""What the library keeps beside its results and never reads back: read for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from siglip_study.base.io import read_json
from siglip_study.models.fast_layers import LAYER_STATE, decoder_layers
from siglip_study.runs.run import SCHEMA


def checkpoint_facts(folder: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint."""
    return read_json(folder / "checkpoint.json", SCHEMA)


def frame_facts(path: Path) -> dict[str, Any]:
    """What made a split's frame embeddings."""
    with safe_open(str(path), framework="pt") as file:
        return json.loads(file.metadata()["facts"])


def layer_settings(llm: nn.Module) -> tuple[bool, int]:
    """Whether the decoder layers are compiled, and how many are recomputed."""
    found = [getattr(layer, LAYER_STATE, None) for layer in decoder_layers(llm)]
    return any(s and s.compiled for s in found), sum(bool(s and s.recomputed) for s in found)
