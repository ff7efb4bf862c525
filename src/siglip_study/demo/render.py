"""Scenes to pixels: numpy and Pillow, twice oversampled, the same bytes for the same scene."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from siglip_study.demo.world import BACKGROUND_ZOOM, Scene, positions, zoom

# ---- Silhouettes of the things, as polygons in the square [-1, 1]² (y down).

Polygon = list[tuple[float, float]]


def _ellipse(cx: float, cy: float, rx: float, ry: float, n: int = 20) -> Polygon:
    return [
        (cx + rx * math.cos(2 * math.pi * k / n), cy + ry * math.sin(2 * math.pi * k / n))
        for k in range(n)
    ]


def _star() -> Polygon:
    angles = [math.pi * k / 5 for k in range(10)]
    return [
        (r * math.sin(a), -r * math.cos(a) + 0.05)
        for r, a in zip([1.0, 0.42] * 5, angles, strict=True)
    ]


def _polygon(points: str) -> Polygon:
    """Of "x,y x,y …", as SVG writes them."""
    corners = (point.split(",") for point in points.split())
    return [(float(x), float(y)) for x, y in corners]


#: thing → body parts filled with the thing's colour.
BODY: dict[str, list[Polygon]] = {
    "car": [_polygon("-1,.5 -1,0 -.62,-.08 -.4,-.55 .4,-.55 .62,-.08 1,0 1,.5")],
    "ball": [_ellipse(0, 0, 0.92, 0.92, 28)],
    "fish": [_ellipse(-0.22, 0, 0.76, 0.52), _polygon(".3,0 1,-.6 .82,0 1,.6")],
    "bird": [
        _polygon(
            "-1,-.6 -.5,-.42 0,.1 .5,-.42 1,-.6 .62,.1 .2,.42 .22,.75 -.22,.75 -.2,.42 -.62,.1"
        ),
        _ellipse(0, -0.1, 0.2, 0.24, 12),
    ],
    "boat": [
        _polygon("-1,.35 1,.35 .62,.85 -.62,.85"),
        _polygon("-.06,-.95 -.06,.22 -.82,.22"),
        _polygon(".08,-.7 .08,.22 .66,.22"),
    ],
    "house": [_polygon("-.95,-.1 0,-.95 .95,-.1 .72,-.1 .72,.85 -.72,.85 -.72,-.1")],
    "tree": [
        _polygon("0,-1 .5,-.35 .26,-.35 .72,.3 -.72,.3 -.26,-.35 -.5,-.35"),
        _polygon("-.16,.3 .16,.3 .16,.95 -.16,.95"),
    ],
    "star": [_star()],
}

#: thing → parts drawn dark on top, which make the silhouette readable.
DETAIL: dict[str, list[Polygon]] = {
    "car": [
        _ellipse(-0.52, 0.5, 0.26, 0.26, 14),
        _ellipse(0.52, 0.5, 0.26, 0.26, 14),
        _polygon("-.3,-.38 .3,-.38 .42,-.06 -.42,-.06"),
    ],
    "fish": [_ellipse(-0.62, -0.12, 0.11, 0.11, 10)],
    "house": [_polygon("-.2,.85 -.2,.25 .2,.25 .2,.85")],
}


# ---- The places of the demo's world as backgrounds in daylight, drawn once a scene.

Colour = tuple[int, int, int]
#: Draws below the sky: (canvas, random numbers, row of the horizon, side of the canvas).
_Painter = Callable[[ImageDraw.ImageDraw, np.random.Generator, int, int], None]


def _clouds(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, n: int) -> None:
    """Pale clouds, without which an open sky would not show the zoom."""
    for x in range(int(rng.integers(-30, 10)), n, 62):
        y = int(rng.uniform(0.1, 0.7) * horizon)
        for dx, dy, r in ((0, 0, 9), (12, -4, 11), (25, 0, 8)):
            box = (x + dx - r, y + dy - r * 0.7, x + dx + r, y + dy + r * 0.7)
            draw.ellipse(box, fill=(232, 238, 243))


def _sea(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, n: int) -> None:
    _clouds(draw, rng, horizon, n)
    draw.rectangle((0, horizon, n, n), fill=(40, 110, 160))
    for y in range(horizon + 5, n, 14):
        for x in range(int(rng.integers(-34, 0)), n, 34):
            draw.arc((x, y, x + 22, y + 12), 190, 350, fill=(150, 205, 232), width=3)


def _mountain(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, n: int) -> None:
    shades: tuple[Colour, ...] = ((150, 140, 150), (120, 100, 92), (92, 74, 64))
    for layer, shade in enumerate(shades):
        base = horizon + int(n * (0.16 + 0.18 * layer))
        x = -30 + int(rng.integers(-25, 10))
        while x < n:
            half = int(rng.uniform(0.2, 0.34) * n)
            peak = base - int(rng.uniform(0.38, 0.55) * n)
            draw.polygon((x, base, x + half, peak, x + 2 * half, base), fill=shade)
            if layer == 0:
                cap, w = (peak - base) // 4, half // 4
                snow = (x + half - w, peak - cap, x + half, peak, x + half + w, peak - cap)
                draw.polygon(snow, fill=(240, 240, 245))
            x += int(half * 1.25)
        draw.rectangle((0, min(base, n), n, n), fill=shade)


def _city(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, n: int) -> None:
    x = int(rng.integers(-14, 0))
    while x < n:
        width = int(rng.integers(22, 36))
        top = int(n * rng.uniform(0.12, 0.45))
        grey = int(rng.integers(105, 150))
        draw.rectangle((x, top, x + width - 2, n), fill=(grey, grey, grey + 8))
        for wy in range(top + 6, int(n * 0.8), 13):
            for wx in range(x + 4, x + width - 8, 9):
                draw.rectangle((wx, wy, wx + 4, wy + 6), fill=(70, 76, 92))
        x += width
    road = int(n * 0.8)
    draw.rectangle((0, road, n, n), fill=(72, 72, 76))
    for wx in range(int(rng.integers(-20, 0)), n, 32):
        draw.rectangle((wx, road + 16, wx + 16, road + 20), fill=(205, 205, 195))


def _field(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, n: int) -> None:
    _clouds(draw, rng, horizon, n)
    draw.rectangle((0, horizon, n, n), fill=(150, 190, 92))
    # Furrows that meet at the horizon: straight lines that only a field has.
    vanish = n * rng.uniform(0.35, 0.65)
    for k in range(-9, 10):
        foot = vanish + (k + rng.uniform(-0.2, 0.2)) * n * 0.2
        head = vanish + 0.2 * (foot - vanish)
        draw.line((head, horizon, foot, n), fill=(104, 148, 58), width=3)


#: place → (colour of the sky, painter of the rest).
_PLACES: dict[str, tuple[Colour, _Painter]] = {
    "sea": ((178, 216, 238), _sea),
    "mountain": ((196, 208, 224), _mountain),
    "city": ((204, 200, 196), _city),
    "field": ((206, 226, 236), _field),
}


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


@lru_cache(maxsize=1024)
def _thing_colour(scene: Scene) -> Colour:
    hue, saturation, value = _HSV[scene.colour]
    jitter = _rng(scene, 2).uniform(-1, 1, 3)
    if scene.weather == "night":
        value *= 0.88
    r, g, b = colorsys.hsv_to_rgb(
        (hue + 0.018 * float(jitter[0])) % 1.0,
        min(saturation * (1 + 0.06 * float(jitter[1])), 1.0),
        min(value * (1 + 0.05 * float(jitter[2])), 1.0),
    )
    return int(r * 255), int(g * 255), int(b * 255)


def _scaled(polygon: Polygon, cx: float, cy: float, rx: float, ry: float) -> list[float]:
    return [c for x, y in polygon for c in (cx + x * rx, cy + y * ry)]


@lru_cache(maxsize=64)
def _background(scene: Scene) -> Image.Image:
    """The place under its weather, before the camera; [_CANVAS, _CANVAS] RGB."""
    rng = _rng(scene, 3)
    sky, paint = _PLACES[scene.place]
    place = Image.new("RGB", (_CANVAS, _CANVAS), sky)
    paint(ImageDraw.Draw(place), rng, int(_CANVAS * rng.uniform(0.42, 0.52)), _CANVAS)
    pixels = np.asarray(place, dtype=np.float32) * rng.uniform(0.94, 1.06, 3).astype(np.float32)
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
    rng = _rng(scene, 4)
    if scene.weather == "rain":
        drops = rng.random((44, 2))
        fall = (drops[:, 1] + 3.1 * t) % 1.15 - 0.1
        length = 0.085 * side
        for x, y in zip(drops[:, 0] * 1.1 * side, fall * side, strict=True):
            draw.line((x, y, x - 0.3 * length, y + length), fill=(214, 224, 236), width=2)
    elif scene.weather == "snow":
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
