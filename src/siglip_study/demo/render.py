"""Scenes to pixels: numpy and Pillow, twice oversampled, the same bytes for the same scene."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from siglip_study.demo.places import draw_place
from siglip_study.demo.shapes import BODY, DETAIL, Polygon
from siglip_study.demo.world import BACKGROUND_ZOOM, Scene, positions, zoom

_OVERSAMPLE = 2
#: Side of the background canvas; one zoomed to the full is still finer than a 96 px frame.
_CANVAS = 192

#: colour → (hue, saturation, value), each jittered a little per scene.
_HSV = {
    "red": (0.0, 0.92, 0.92),
    "yellow": (0.145, 0.95, 1.0),
    "green": (0.36, 0.95, 0.72),
    "blue": (0.615, 0.92, 0.95),
    "purple": (0.80, 0.80, 0.80),
    "white": (0.0, 0.0, 1.0),
}


def _rng(scene: Scene, salt: int) -> np.random.Generator:
    return np.random.default_rng((scene.render_seed, salt))


def _rgb(h: float, s: float, v: float) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb(h % 1.0, min(s, 1.0), min(v, 1.0))
    return int(r * 255), int(g * 255), int(b * 255)


@lru_cache(maxsize=1024)
def _thing_colour(scene: Scene) -> tuple[int, int, int]:
    hue, saturation, value = _HSV[scene.colour]
    jitter = _rng(scene, 2).uniform(-1, 1, 3)
    if scene.weather == "night":
        value *= 0.88
    return _rgb(
        hue + 0.018 * float(jitter[0]),
        saturation * (1 + 0.06 * float(jitter[1])),
        value * (1 + 0.05 * float(jitter[2])),
    )


def _scaled(polygon: Polygon, cx: float, cy: float, rx: float, ry: float) -> list[float]:
    return [c for x, y in polygon for c in (cx + x * rx, cy + y * ry)]


@lru_cache(maxsize=64)
def _background(scene: Scene) -> Image.Image:
    """The place under its weather, before the camera; [_CANVAS, _CANVAS] RGB."""
    rng = _rng(scene, 3)
    pixels = np.asarray(draw_place(scene.place, rng, _CANVAS), dtype=np.float32)
    pixels = pixels * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    grain = rng.normal(0, 9, (_CANVAS // 8, _CANVAS // 8, 1)).astype(np.float32)
    pixels = pixels + grain.repeat(8, 0).repeat(8, 1)
    if scene.weather == "night":
        pixels = pixels * np.array([0.27, 0.29, 0.42], np.float32)
    elif scene.weather == "rain":
        grey = pixels.mean(2, keepdims=True)
        pixels = (0.5 * pixels + 0.5 * grey) * np.float32(0.68)
    elif scene.weather == "snow":
        pixels = 0.62 * pixels + np.float32(0.38 * 235)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _draw_things(draw: ImageDraw.ImageDraw, scene: Scene, t: float, side: int) -> None:
    colour = _thing_colour(scene)
    flip = -1.0 if scene.render_seed % 2 else 1.0
    edge = max(1.5, side / 96)
    for cx, cy, radius in positions(scene, t):
        x, y, r = cx * side, cy * side, radius * side
        for polygon in BODY[scene.thing]:
            points = _scaled(polygon, x, y, r * flip, r)
            draw.line(points + points[:2], fill=(20, 20, 24), width=int(2 * edge), joint="curve")
        for polygon in BODY[scene.thing]:
            draw.polygon(_scaled(polygon, x, y, r * flip, r), fill=colour)
        for polygon in DETAIL.get(scene.thing, ()):
            draw.polygon(_scaled(polygon, x, y, r * flip, r), fill=(28, 28, 32))


def _draw_weather(draw: ImageDraw.ImageDraw, scene: Scene, t: float, side: int) -> None:
    if scene.weather not in ("rain", "snow"):
        return
    rng = _rng(scene, 4)
    if scene.weather == "rain":
        drops = rng.random((44, 2))
        fall = (drops[:, 1] + 3.1 * t) % 1.15 - 0.1
        length = 0.085 * side
        for x, y in zip(drops[:, 0] * 1.1 * side, fall * side, strict=True):
            draw.line((x, y, x - 0.3 * length, y + length), fill=(214, 224, 236), width=2)
    else:
        flakes = rng.random((46, 3))
        fall = (flakes[:, 1] + 0.55 * t) % 1.05 - 0.02
        for x, y, s in zip(flakes[:, 0] * side, fall * side, flakes[:, 2], strict=True):
            r = (0.011 + 0.009 * s) * side
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))


def render_frame(scene: Scene, t: float, size: int = 96) -> np.ndarray:
    """One frame at time t in [0, 1]; uint8 [size, size, 3], RGB."""
    side = size * _OVERSAMPLE
    crop = _CANVAS / BACKGROUND_ZOOM ** zoom(scene, t)
    low = (_CANVAS - crop) / 2
    image = _background(scene).resize(
        (side, side), Image.Resampling.BILINEAR, box=(low, low, low + crop, low + crop)
    )
    draw = ImageDraw.Draw(image)
    _draw_things(draw, scene, t, side)
    _draw_weather(draw, scene, t, side)
    return np.asarray(image.reduce(_OVERSAMPLE))


def render_frames(scene: Scene, n: int, size: int = 96) -> np.ndarray:
    """``n`` frames at the middles of n equal spans of the clip; uint8 [n, size, size, 3], RGB."""
    return np.stack([render_frame(scene, (i + 0.5) / n, size) for i in range(n)])
