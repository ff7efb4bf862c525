"""The places of the demo's world as backgrounds in daylight, drawn once a scene."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

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


def draw_place(place: str, rng: np.random.Generator, side: int) -> Image.Image:
    """A place in daylight, RGB, ``side`` × ``side`` pixels; details are drawn for about 192."""
    sky, paint = _PLACES[place]
    image = Image.new("RGB", (side, side), sky)
    paint(ImageDraw.Draw(image), rng, int(side * rng.uniform(0.42, 0.52)), side)
    return image
