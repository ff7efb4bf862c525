"""Captions, pictures and hostile text."""

from __future__ import annotations

import io

import numpy as np

HOSTILE = "</script><img src=x onerror=alert(1)>"
HOSTILE_ID = "clip-<b>&\"'</b>"
_WORDS = [
    "파란",
    "빨간",
    "노란",
    "공이",
    "상자가",
    "별이",
    "왼쪽으로",
    "오른쪽으로",
    "천천히",
    "빠르게",
    "들판에서",
    "바닷가에서",
    "비",
    "오는",
    "날",
    "움직인다",
    "멈춘다",
]


def caption(rng: np.random.Generator, words: int = 9) -> str:
    return " ".join(rng.choice(_WORDS, words)) + "."


def jpeg(index: int, size: int = 96) -> bytes:
    """A small picture that differs by clip."""
    from PIL import Image

    ramp = np.add.outer(np.arange(size), np.arange(size)) % 256
    pixels = np.stack([ramp, np.roll(ramp, index * 7, 0), np.full_like(ramp, index * 31 % 256)], -1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()
