"""The procedural world: what a scene may be, where its things are, and which pool may see it.

A scene is a tuple of facts (closed vocabulary) plus a ``render_seed`` from which everything that is
not a fact follows: start, speed, spacing, texture. Facts and layout are known without rendering.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "thing": ("car", "ball", "fish", "bird", "boat", "house", "tree", "star"),
    "colour": ("red", "yellow", "green", "blue", "purple", "white"),
    "size": ("small", "large"),
    "count": ("1", "2", "3"),
    "motion": ("still", "left", "right", "up", "down"),
    "place": ("sea", "mountain", "city", "field"),
    "weather": ("clear", "rain", "snow", "night"),
    "camera": ("static", "zoom_in", "zoom_out"),
}

#: Attributes that no single frame of unknown time can tell.
MULTI_FRAME_ATTRIBUTES = ("motion", "camera")

#: What a fact is about, from coarse to fine.
GRAINS: dict[str, tuple[str, ...]] = {
    "scene": ("thing", "place", "weather"),
    "attributes": ("colour", "size"),
    "count": ("count",),
    "order": MULTI_FRAME_ATTRIBUTES,
}

#: Share of the fact tuples that each pool may see; who sees a tuple is decided by its hash.
POOLS: dict[str, float] = {"clips": 0.20, "lm": 0.25, "tower": 0.30, "scorer": 0.25}
_POOL_ENDS = list(zip(POOLS, accumulate(POOLS.values()), strict=True))

#: Combinations that only the clips may show: no micro model has met them in training.
HELD_OUT_PAIRS: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = (
    (("thing", "car"), ("colour", "purple")),
    (("thing", "fish"), ("colour", "red")),
    (("thing", "bird"), ("colour", "green")),
    (("thing", "house"), ("colour", "blue")),
    (("place", "sea"), ("weather", "snow")),
)

RENDER_SEEDS_PER_POOL = 2**40

#: Radius of one thing before the zoom, in picture widths (0.11 is 14 px across at 64 px).
RADIUS: dict[str, float] = {"small": 0.11, "large": 0.158}
#: Ranges of the zoom over a clip. Things grow less than the background, so that a small thing
#: never reaches the size of a large one.
THING_ZOOM = 1.18
BACKGROUND_ZOOM = 1.9
MIN_TRAVEL = 0.5


@dataclass(frozen=True)
class Scene:
    """One scene: eight facts (values of :data:`ATTRIBUTES`) and the seed of all the rest."""

    thing: str
    colour: str
    size: str
    count: str
    motion: str
    place: str
    weather: str
    camera: str
    render_seed: int

    def __post_init__(self) -> None:
        for attribute, value in facts(self).items():
            if value not in ATTRIBUTES[attribute]:
                expected = ATTRIBUTES[attribute]
                raise ValueError(f"{attribute} is {value!r}; expected one of {expected}")


class Layout(NamedTuple):
    """What the render seed fixes; unit coordinates, the origin at the top left.

    ``low`` and ``travel`` are (x, y): the group's centre runs from ``low`` to ``low + travel`` on
    the axis of its motion and rests at ``low + phase * travel`` on the other (on both when still),
    so that at a random time its position is distributed the same for every motion.
    """

    low: tuple[float, float]
    travel: tuple[float, float]
    phase: tuple[float, float]
    zoom_phase: float
    offsets: tuple[tuple[float, float], ...]


def facts(scene: Scene) -> dict[str, str]:
    """The facts of a scene: attribute → value, in the order of :data:`ATTRIBUTES`."""
    return {attribute: getattr(scene, attribute) for attribute in ATTRIBUTES}


def category(scene: Scene) -> str:
    """The category a dataset would file the scene under: its place."""
    return scene.place


def pool_of(values: dict[str, str]) -> str | None:
    """The pool that owns a fact tuple; None for a held-out pair outside the clips' share.

    A stable hash (BLAKE2b of the values in order) maps the tuple to [0, 1), which the pools share
    out by :data:`POOLS`; no process, platform or sampling order changes the answer.
    """
    key = "|".join(values[attribute] for attribute in ATTRIBUTES)
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    u = int.from_bytes(digest, "big") / 2**64
    pool = next((name for name, end in _POOL_ENDS if u < end), _POOL_ENDS[-1][0])
    if pool != "clips" and any(
        values[a] == value_a and values[b] == value_b
        for (a, value_a), (b, value_b) in HELD_OUT_PAIRS
    ):
        return None
    return pool


def sample_scene(rng: np.random.Generator, pool: str) -> Scene:
    """Draw a scene of a pool: uniform over its fact tuples, with a render seed of its own range."""
    first = list(POOLS).index(pool) * RENDER_SEEDS_PER_POOL
    sizes = [len(values) for values in ATTRIBUTES.values()]
    while True:
        picks = rng.integers(0, sizes)
        values = {
            name: options[i] for (name, options), i in zip(ATTRIBUTES.items(), picks, strict=True)
        }
        if pool_of(values) == pool:
            seed = first + int(rng.integers(RENDER_SEEDS_PER_POOL))
            return Scene(**values, render_seed=seed)


def _offsets(count: int, spacing: float, angle: float) -> tuple[tuple[float, float], ...]:
    """Centres of the copies around the group's centre, ``spacing`` apart."""
    if count == 1:
        return ((0.0, 0.0),)
    ring = spacing / (2 * math.sin(math.pi / count))
    angles = [angle + 2 * math.pi * k / count for k in range(count)]
    return tuple((ring * math.cos(a), ring * math.sin(a)) for a in angles)


@lru_cache(maxsize=4096)
def layout(scene: Scene) -> Layout:
    """The layout of a scene. Its distribution depends on size and count, never on the motion."""
    rng = np.random.default_rng((scene.render_seed, 1))
    radius = RADIUS[scene.size] * THING_ZOOM**0.5
    count = int(scene.count)
    u = rng.random(8)
    offsets = _offsets(count, 2 * radius * (1.04 + 0.08 * u[0]), math.pi * 2 * u[1])
    low, travel = [], []
    for axis in range(2):
        reach = max(abs(offset[axis]) for offset in offsets) + radius
        # The outermost copy may lose a third of its radius at the edge, so that a large group
        # still has room to travel half of the picture.
        margin = min(max(reach - radius / 3, 0.12), 0.25)
        room = 1 - 2 * margin
        way = MIN_TRAVEL + (room - MIN_TRAVEL) * 0.8 * float(u[2 + axis])
        low.append(margin + (room - way) * float(u[4 + axis]))
        travel.append(way)
    return Layout(
        low=(low[0], low[1]),
        travel=(travel[0], travel[1]),
        phase=(float(u[6]), float(u[7])),
        zoom_phase=float(rng.random()),
        offsets=offsets,
    )


def zoom(scene: Scene, t: float) -> float:
    """How far the camera has zoomed at time t, in [0, 1] of its range; constant when static."""
    return {"zoom_in": t, "zoom_out": 1 - t}.get(scene.camera, layout(scene).zoom_phase)


def positions(scene: Scene, t: float) -> list[tuple[float, float, float]]:
    """(centre x, centre y, radius) of every copy at time t in [0, 1]; unit coordinates, y down."""
    plan = layout(scene)
    x_at, y_at = plan.phase
    x_at = {"right": t, "left": 1 - t}.get(scene.motion, x_at)
    y_at = {"down": t, "up": 1 - t}.get(scene.motion, y_at)
    x = plan.low[0] + plan.travel[0] * x_at
    y = plan.low[1] + plan.travel[1] * y_at
    radius = RADIUS[scene.size] * THING_ZOOM ** zoom(scene, t)
    return [(x + dx, y + dy, radius) for dx, dy in plan.offsets]
