"""Silhouettes of the things, as polygons in the square [-1, 1]² (y down)."""

from __future__ import annotations

import math

Polygon = list[tuple[float, float]]


def _ellipse(cx: float, cy: float, rx: float, ry: float, n: int = 20) -> Polygon:
    return [
        (cx + rx * math.cos(2 * math.pi * k / n), cy + ry * math.sin(2 * math.pi * k / n))
        for k in range(n)
    ]


def _star(points: int = 5, inner: float = 0.42) -> Polygon:
    radii = [1.0, inner] * points
    return [
        (r * math.sin(math.pi * k / points), -r * math.cos(math.pi * k / points) + 0.05)
        for k, r in enumerate(radii)
    ]


#: thing → body parts filled with the thing's colour.
BODY: dict[str, list[Polygon]] = {
    "car": [
        [
            (-1, 0.5),
            (-1, 0.0),
            (-0.62, -0.08),
            (-0.4, -0.55),
            (0.4, -0.55),
            (0.62, -0.08),
            (1, 0.0),
            (1, 0.5),
        ],
    ],
    "ball": [_ellipse(0, 0, 0.92, 0.92, 28)],
    "fish": [
        _ellipse(-0.22, 0, 0.76, 0.52),
        [(0.3, 0), (1, -0.6), (0.82, 0), (1, 0.6)],
    ],
    "bird": [
        [
            (-1, -0.6),
            (-0.5, -0.42),
            (0, 0.1),
            (0.5, -0.42),
            (1, -0.6),
            (0.62, 0.1),
            (0.2, 0.42),
            (0.22, 0.75),
            (-0.22, 0.75),
            (-0.2, 0.42),
            (-0.62, 0.1),
        ],
        _ellipse(0, -0.1, 0.2, 0.24, 12),
    ],
    "boat": [
        [(-1, 0.35), (1, 0.35), (0.62, 0.85), (-0.62, 0.85)],
        [(-0.06, -0.95), (-0.06, 0.22), (-0.82, 0.22)],
        [(0.08, -0.7), (0.08, 0.22), (0.66, 0.22)],
    ],
    "house": [
        [
            (-0.95, -0.1),
            (0, -0.95),
            (0.95, -0.1),
            (0.72, -0.1),
            (0.72, 0.85),
            (-0.72, 0.85),
            (-0.72, -0.1),
        ],
    ],
    "tree": [
        [
            (0, -1),
            (0.5, -0.35),
            (0.26, -0.35),
            (0.72, 0.3),
            (-0.72, 0.3),
            (-0.26, -0.35),
            (-0.5, -0.35),
        ],
        [(-0.16, 0.3), (0.16, 0.3), (0.16, 0.95), (-0.16, 0.95)],
    ],
    "star": [_star()],
}

#: thing → parts drawn dark on top, which make the silhouette readable.
DETAIL: dict[str, list[Polygon]] = {
    "car": [
        _ellipse(-0.52, 0.5, 0.26, 0.26, 14),
        _ellipse(0.52, 0.5, 0.26, 0.26, 14),
        [(-0.3, -0.38), (0.3, -0.38), (0.42, -0.06), (-0.42, -0.06)],
    ],
    "fish": [_ellipse(-0.62, -0.12, 0.11, 0.11, 10)],
    "house": [[(-0.2, 0.85), (-0.2, 0.25), (0.2, 0.25), (0.2, 0.85)]],
}
