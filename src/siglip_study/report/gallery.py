"""The gallery: pictures and every projector's caption, clip by clip, within a budget of bytes."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.data.clips import clip_files
from siglip_study.data.decoding import read_frames
from siglip_study.report.embed import json_island

#: Width of a picture in pixels.
WIDTH = 128


@dataclass(frozen=True)
class GallerySettings:
    """How much of the report split the gallery shows.

    Attributes:
        frames: clip id → JPEG files of its frames, in order of time; None for a gallery of text.
        max_clips: clips with captions, at most.
        max_picture_clips: clips with pictures, at most.
        picture_bytes: budget of all pictures, as base64.
        text_bytes: budget of all captions, as JSON.
        page_bytes: size of the whole page; the budgets above shrink until it holds.
    """

    frames: Callable[[str], Sequence[bytes]] | None = None
    max_clips: int = 1000
    max_picture_clips: int = 200
    picture_bytes: int = 1_500_000
    text_bytes: int = 1_000_000
    page_bytes: int = 5_000_000


def jpeg_thumbnails(frames: np.ndarray) -> list[bytes]:
    """Frames ``[F, H, W, 3]`` uint8 as JPEG files, :data:`WIDTH` pixels wide at most."""
    from PIL import Image

    files = []
    for frame in frames:
        image = Image.fromarray(frame)
        if image.width > WIDTH:
            height = max(1, round(image.height * WIDTH / image.width))
            image = image.resize((WIDTH, height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=55, optimize=True)
        files.append(buffer.getvalue())
    return files


def gallery_order(ids: Sequence[str]) -> list[str]:
    """Ids by their hash: which clips are shown depends on no score."""
    return sorted(ids, key=lambda clip: (hashlib.sha256(clip.encode()).hexdigest(), clip))


def gallery_columns(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Captioners side by side: each projector's first report seed, retrieval, the hot control."""
    columns: list[dict[str, Any]] = []
    reports = [c for c in cells if c["role"] == "report"]
    for cell in sorted(reports, key=lambda c: c["seed"] or 0):
        if cell["projector"] not in (column["label"] for column in columns):
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
        told = known.get(clip, {})
        entry = {
            "id": clip,
            "group": told.get("group"),
            "category": told.get("category"),
            "references": list(told.get("captions") or []),
            "frames": [],
            "captions": [_caption(by_clip[clip].get(column["cell"])) for column in columns],
        }
        size = len(json_island(entry).encode())
        if size > text_left:
            break
        text_left -= size
        if settings.frames is not None and pictured < settings.max_picture_clips:
            frames = [base64.b64encode(file).decode() for file in settings.frames(clip)]
            size = sum(map(len, frames))
            if size <= pictures_left:
                pictures_left -= size
                entry["frames"] = frames
                pictured += bool(frames)
            else:
                pictures_left = 0
        shown.append(entry)
    counts = {"total": len(by_clip), "shown": len(shown), "pictured": pictured}
    return {"columns": columns, "clips": shown, **counts}


def _caption(row: dict[str, Any] | None) -> list[Any] | None:
    """``[text, D, truncated]`` of a row of the ``clips`` table."""
    if row is None:
        return None
    margin = row["grounding_margin"]
    rounded = None if margin is None or margin != margin else round(float(margin), 4)
    return [row["caption"], rounded, bool(row["truncated"])]


# ---- Pictures of clips for the gallery, decoded from the videos themselves.


def clip_pictures(manifest: Path, root: Path, frames: int) -> Callable[[str], list[bytes]]:
    """A function from a clip's id to JPEG files of ``frames`` frames, uniform in time."""
    files = clip_files(pl.read_parquet(manifest), root)

    def pictures(clip: str) -> list[bytes]:
        return jpeg_thumbnails(read_frames(files[clip], frames))

    return pictures
