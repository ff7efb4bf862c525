"""Sizes of the models that the shipped configs name, so that they can be built with no network.

Each JSON file here holds a model's ``config`` (what shapes and tokens depend on, in transformers'
spelling; the rest is its config class's defaults) and, for image towers, its ``image_processor``.
A model's own files, where they are at hand, always come first.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.models.hub import (
    FETCH_HINT,
    cached_file,
    is_folder,
    read_model_json,
    read_settings,
    require_folder,
)

_CONFIG = "config.json"


def architecture(model: str, revision: str | None = None, key: str = "model") -> dict[str, Any]:
    """A model's config: its own ``config.json`` if at hand, else the packaged sizes.

    Never touches the network. :func:`architecture_source` tells which of the two it is.

    Args:
        model: local folder or hub id.
        revision: pinned hub revision; packaged sizes are the same for every revision.
        key: the config key that errors name.

    Raises:
        StudyError: no such folder, no JSON, or neither cached nor packaged.
    """
    require_folder(model, key)
    path = _own(model, revision, _CONFIG)
    if path is not None:
        return read_settings(path)
    packaged = _packaged(model)
    if packaged is None or is_folder(model):
        raise StudyError(
            f"{key} '{model}': its {_CONFIG} is not on this machine, and its sizes are not among "
            f"those packaged ({', '.join(packaged_models())}); {FETCH_HINT}"
        )
    config: dict[str, Any] = packaged["config"]
    return config


def settings_of(model: str, revision: str | None, key: str, random: bool) -> dict[str, Any]:
    """A model's config as it is to be built: its own, fetched if need be.

    For random weights the packaged sizes will do where nothing is on this machine.

    Raises:
        StudyError: not at hand.
    """
    require_folder(model, key)
    if random and architecture_source(model, revision) != "absent":
        return architecture(model, revision, key)
    settings: dict[str, Any] = read_model_json(model, revision, (_CONFIG,), key)
    return settings


def architecture_source(model: str, revision: str | None = None) -> str:
    """Where :func:`architecture` finds a model: "folder", "hub cache", "packaged" or "absent"."""
    if _own(model, revision, _CONFIG) is not None:
        return "folder" if is_folder(model) else "hub cache"
    return "absent" if is_folder(model) or _packaged(model) is None else "packaged"


def image_processor(model: str) -> dict[str, Any] | None:
    """The packaged image settings of a hub model; None: not packaged, or not an image model."""
    packaged = _packaged(model)
    settings: dict[str, Any] | None = packaged and packaged.get("image_processor")
    return settings


def packaged_models() -> list[str]:
    """Hub ids of the models whose sizes are packaged."""
    names = (entry.name for entry in files(__package__).iterdir())
    return sorted(n.removesuffix(".json").replace("--", "/") for n in names if n.endswith(".json"))


def _own(model: str, revision: str | None, name: str) -> Path | None:
    if is_folder(model):
        path = Path(model) / name
        return path if path.is_file() else None
    return cached_file(model, revision, name)


def _packaged(model: str) -> dict[str, Any] | None:
    if model not in packaged_models():
        return None
    text = files(__package__).joinpath(model.replace("/", "--") + ".json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
