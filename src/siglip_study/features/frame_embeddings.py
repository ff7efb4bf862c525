"""The scorer's frame embeddings of a split: one safetensors file, ids and facts in its header."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path

SCHEMA = "frame_embeddings/1"


def write_frame_embeddings(
    path: str | Path, ids: Sequence[str], embeddings: Tensor, facts: dict[str, Any]
) -> None:
    """Write ``[N, F, E]`` in fp32 with its ids.

    Raises:
        StudyError: numbers of ids and rows differ, an id repeats, or a value is not finite.
    """
    if embeddings.ndim != 3 or len(ids) != len(embeddings) or len(set(ids)) != len(ids):
        raise StudyError(
            f"{path}: {len(set(ids))} different ids for embeddings {tuple(embeddings.shape)}; "
            "expected one row (frames, width) an id."
        )
    finite = embeddings.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        bad = ids[int((~finite).nonzero()[0])]
        raise StudyError(f"{path}: embeddings of clip '{bad}' are not finite; expected numbers.")
    header = {
        "schema": SCHEMA,
        "ids": json.dumps(list(ids), ensure_ascii=False),
        "facts": json.dumps(facts, ensure_ascii=False),
    }
    with atomic_path(path) as partial:
        save_file({"embeddings": embeddings.float().cpu().contiguous()}, partial, header)


def read_frame_embeddings(path: str | Path) -> dict[str, Tensor]:
    """Clip id → fp32 ``[F, E]``, rows of length 1.

    Raises:
        StudyError: the file is absent or is not one of these.
    """
    ids, embeddings, _ = _read(path)
    return dict(zip(ids, embeddings, strict=True))


def read_frame_facts(path: str | Path) -> dict[str, Any]:
    """What made the embeddings: the scorer's facts and the number of frames.

    Raises:
        StudyError: as :func:`read_frame_embeddings`.
    """
    return _read(path)[2]


def _read(path: str | Path) -> tuple[list[str], Tensor, dict[str, Any]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("schema") != SCHEMA:
                raise StudyError(
                    f"{path}: schema is {header.get('schema')!r}; expected '{SCHEMA}'."
                )
            return (
                json.loads(header["ids"]),
                file.get_tensor("embeddings"),
                json.loads(header["facts"]),
            )
    except (OSError, SafetensorError) as error:
        raise StudyError(f"{path}: cannot be read as frame embeddings ({error}).") from None
