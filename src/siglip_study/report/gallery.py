"""The gallery: pictures and every projector's caption, clip by clip, within a budget of bytes."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.data.decoding import Decoder
from siglip_study.report.embed import json_island

#: Clip id → JPEG files of its frames, in order of time.
FrameSource = Callable[[str], Sequence[bytes]] | Mapping[str, Sequence[bytes]]


@dataclass(frozen=True)
class GallerySettings:
    """How much of the report split the gallery shows.

    Attributes:
        frames: where pictures come from; None for a gallery of text.
        max_clips: clips with captions, at most.
        max_picture_clips: clips with pictures, at most.
        picture_bytes: budget of all pictures, as base64.
        text_bytes: budget of all captions, as JSON.
        page_bytes: size of the whole page; the budgets above shrink until it holds.
    """

    frames: FrameSource | None = None
    max_clips: int = 1000
    max_picture_clips: int = 200
    picture_bytes: int = 1_500_000
    text_bytes: int = 1_000_000
    page_bytes: int = 5_000_000


def jpeg_thumbnails(frames: np.ndarray, width: int = 128, quality: int = 55) -> list[bytes]:
    """Frames ``[F, H, W, 3]`` uint8 as JPEG files, ``width`` pixels wide at most."""
    from PIL import Image

    files = []
    for frame in frames:
        image = Image.fromarray(frame)
        if image.width > width:
            height = max(1, round(image.height * width / image.width))
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        files.append(buffer.getvalue())
    return files


def gallery_order(ids: Sequence[str]) -> list[str]:
    """Ids by their hash: which clips are shown depends on no score."""
    return sorted(ids, key=lambda clip: (hashlib.sha256(clip.encode()).hexdigest(), clip))


def gallery_columns(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Captioners side by side: each projector's first report seed, retrieval, the hot control."""
    columns, seen = [], set()
    reports = [c for c in cells if c["role"] == "report"]
    for cell in sorted(reports, key=lambda c: c["seed"] if c["seed"] is not None else 0):
        if cell["projector"] not in seen:
            seen.add(cell["projector"])
            columns.append({"cell": cell["cell"], "label": cell["projector"], "seed": cell["seed"]})
    columns.sort(key=lambda c: c["label"])
    for role, label in (
        ("control_retrieval", "retrieval baseline"),
        ("control_hot", "hot positive control"),
    ):
        found = next((c for c in cells if c["role"] == role), None)
        if found is not None:
            columns.append({"cell": found["cell"], "label": label, "seed": None})
    return columns


def gallery_island(
    manifest: list[dict[str, Any]],
    clips: list[dict[str, Any]],
    columns: list[dict[str, Any]],
    settings: GallerySettings,
) -> dict[str, Any]:
    """What the page's script draws: ``{"columns", "clips", "total", "shown", "pictured"}``.

    A clip is ``{"id", "group", "category", "references", "frames", "captions"}``; ``captions`` has
    one ``[text, D, truncated]`` a column, null where that cell has no such clip.

    Args:
        manifest: rows of the manifest.
        clips: rows of the ``clips`` table.
        columns: from :func:`gallery_columns`.
        settings: budgets and pictures.
    """
    wanted = {column["cell"] for column in columns}
    by_clip: dict[str, dict[str, dict[str, Any]]] = {}
    for row in clips:
        if row["cell"] in wanted:
            by_clip.setdefault(row["id"], {})[row["cell"]] = row
    known = {row["id"]: row for row in manifest}
    shown: list[dict[str, Any]] = []
    text_left, pictures_left, pictured = settings.text_bytes, settings.picture_bytes, 0
    for clip in gallery_order(list(by_clip)):
        if len(shown) >= settings.max_clips:
            break
        entry = _entry(clip, known.get(clip, {}), by_clip[clip], columns)
        size = len(json_island(entry).encode())
        if size > text_left:
            break
        text_left -= size
        if settings.frames is not None and pictured < settings.max_picture_clips:
            frames = _frames(settings.frames, clip)
            size = sum(map(len, frames))
            if size <= pictures_left:
                pictures_left -= size
                entry["frames"] = frames
                pictured += bool(frames)
            else:
                pictures_left = 0
        shown.append(entry)
    return {
        "columns": columns,
        "clips": shown,
        "total": len(by_clip),
        "shown": len(shown),
        "pictured": pictured,
    }


def _entry(
    clip: str,
    told: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    columns: list[dict[str, Any]],
) -> dict[str, Any]:
    captions: list[Any] = []
    for column in columns:
        row = rows.get(column["cell"])
        if row is None:
            captions.append(None)
            continue
        margin = row["grounding_margin"]
        rounded = None if margin is None or margin != margin else round(float(margin), 4)
        captions.append([row["caption"], rounded, bool(row["truncated"])])
    return {
        "id": clip,
        "group": told.get("group"),
        "category": told.get("category"),
        "references": list(told.get("captions") or []),
        "frames": [],
        "captions": captions,
    }


def _frames(source: FrameSource, clip: str) -> list[str]:
    files = source(clip) if callable(source) else source.get(clip, ())
    return [base64.b64encode(file).decode() for file in files]


# ---- Pictures of clips for the gallery, decoded from the videos themselves.


def clip_pictures(
    manifest: Path, root: Path, decoder: str, frames: int
) -> Callable[[str], list[bytes]]:
    """A function from a clip's id to JPEG files of ``frames`` frames, uniform in time."""
    table = pl.read_parquet(manifest, columns=["id", "path"])
    where = dict(zip(table["id"].to_list(), table["path"].to_list(), strict=True))
    reader = Decoder(decoder)

    def pictures(clip: str) -> list[bytes]:
        return jpeg_thumbnails(reader.read(root / where[clip], frames))

    return pictures
