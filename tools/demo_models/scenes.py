"""Scenes as arrays: labels, geometry and pictures of many scenes, made by all the CPU cores."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from PIL import Image

from siglip_study.demo.captions import caption
from siglip_study.demo.render import render_frame
from siglip_study.demo.world import ATTRIBUTES, Scene, positions, sample_scene, zoom

#: Frames a clip, patches a frame (4 × 4), pixels a side: what the demo's study reads.
FRAMES, PATCHES, PIXELS = 4, 16, 64
#: Side of a clip's frames before the image processor shrinks them.
CLIP_PIXELS = 96
#: Share of each pool's fact tuples that no training sees; quality is measured on them.
UNSEEN_SHARE = 0.06


@dataclass(frozen=True)
class Geometry:
    """What the picture shows where, frame by frame.

    ``cover`` [N, F, P] in [0, 1]: how deep a thing reaches into the patch. ``centre`` [N, F, 2]:
    mean (x, y) of the copies. ``zoom`` [N, F] in [0, 1]: the camera's zoom.
    """

    cover: np.ndarray
    centre: np.ndarray
    zoom: np.ndarray


def unseen(scene: Scene) -> bool:
    """Whether the scene's facts are kept from training, decided by a hash of the facts alone."""
    key = "unseen|" + "|".join(getattr(scene, attribute) for attribute in ATTRIBUTES)
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < UNSEEN_SHARE


def sample_scenes(pool: str, n: int, seed: int, test: bool = False) -> list[Scene]:
    """``n`` scenes of a pool, from its training facts or from its unseen ones."""
    rng = np.random.default_rng((seed, int(test)))
    scenes: list[Scene] = []
    while len(scenes) < n:
        scene = sample_scene(rng, pool)
        if unseen(scene) == test:
            scenes.append(scene)
    return scenes


def labels(scenes: list[Scene]) -> np.ndarray:
    """Index of each scene's value per attribute; int64 [N, 8], columns as in ``ATTRIBUTES``."""
    return np.array(
        [[v.index(getattr(s, a)) for a, v in ATTRIBUTES.items()] for s in scenes], np.int64
    )


def frame_times(n_scenes: int, seed: int, jitter: float) -> np.ndarray:
    """Times [N, F]: the middles of F equal spans, each moved by up to ``jitter`` of a span."""
    rng = np.random.default_rng((seed, 77))
    shift = rng.uniform(-jitter, jitter, (n_scenes, FRAMES))
    return np.clip((np.arange(FRAMES) + 0.5 + shift) / FRAMES, 0.0, 1.0)


def geometry(scenes: list[Scene], times: np.ndarray) -> Geometry:
    """Where the things of each scene are at its times [N, F]."""
    side = int(PATCHES**0.5)
    left = np.tile(np.arange(side), side) / side
    top = np.repeat(np.arange(side), side) / side
    n, frames = times.shape
    cover = np.zeros((n, frames, PATCHES), np.float32)
    centre = np.zeros((n, frames, 2), np.float32)
    zooms = np.zeros((n, frames), np.float32)
    for i, scene in enumerate(scenes):
        for f in range(frames):
            t = float(times[i, f])
            circles = np.array(positions(scene, t))
            x, y, radius = circles.T[:, :, None]
            dx = np.maximum(np.maximum(left - x, x - left - 1 / side), 0)
            dy = np.maximum(np.maximum(top - y, y - top - 1 / side), 0)
            cover[i, f] = np.clip(1 - np.hypot(dx, dy) / radius, 0, 1).max(0)
            centre[i, f] = circles[:, :2].mean(0)
            zooms[i, f] = zoom(scene, t)
    return Geometry(cover, centre, zooms)


def _pictures_of(job: Job) -> np.ndarray:
    scenes, times = job
    frames = np.empty((len(scenes), times.shape[1], PIXELS, PIXELS, 3), np.uint8)
    for i, scene in enumerate(scenes):
        for f, t in enumerate(times[i]):
            # Rendered and shrunk as a clip's frame is: same blur, same edges.
            picture = Image.fromarray(render_frame(scene, float(t), CLIP_PIXELS))
            frames[i, f] = np.asarray(picture.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC))
    return frames


Job = tuple[list[Scene], np.ndarray]
Result = TypeVar("Result")


def _in_chunks(
    function: Callable[[Job], Result], scenes: list[Scene], times: np.ndarray, workers: int
) -> list[Result]:
    chunk = 128
    jobs = [(scenes[i : i + chunk], times[i : i + chunk]) for i in range(0, len(scenes), chunk)]
    if workers <= 1 or len(jobs) == 1:
        return [function(job) for job in jobs]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return pool.map(function, jobs, chunksize=1)


def pictures(scenes: list[Scene], times: np.ndarray, workers: int) -> np.ndarray:
    """Frames of each scene at its times; uint8 [N, F, 64, 64, 3], RGB."""
    return np.concatenate(_in_chunks(_pictures_of, scenes, times, workers))


def _geometry_of(job: Job) -> Geometry:
    return geometry(*job)


def geometries(scenes: list[Scene], times: np.ndarray, workers: int) -> Geometry:
    """:func:`geometry` on several processes."""
    parts = _in_chunks(_geometry_of, scenes, times, workers)
    return Geometry(
        cover=np.concatenate([part.cover for part in parts]),
        centre=np.concatenate([part.centre for part in parts]),
        zoom=np.concatenate([part.zoom for part in parts]),
    )


def _captions_of(job: Job, style: str, variants: int) -> list[list[str]]:
    scenes, seeds = job
    found = []
    for scene, seed in zip(scenes, seeds, strict=True):
        rng = np.random.default_rng(int(seed[0]))
        found.append([caption(scene, rng, style=style) for _ in range(variants)])
    return found


def captions(
    scenes: list[Scene], style: str, variants: int, seed: int, workers: int
) -> list[list[str]]:
    """``variants`` captions of each scene in a style."""
    seeds = np.random.default_rng((seed, 99)).integers(0, 2**40, (len(scenes), 1))
    work = partial(_captions_of, style=style, variants=variants)
    return [texts for part in _in_chunks(work, scenes, seeds, workers) for texts in part]
