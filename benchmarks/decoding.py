"""Decoding: OpenCV's seeks, clip by clip, against the project's stream on the same cores."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.inputs import FULL, SEED, Size
from benchmarks.tables import Cell, Result, Table
from siglip_study.data.clips import ClipFile, frame_indices
from siglip_study.features.images import transform_from
from siglip_study.features.pipeline import stream_frames

CLIP_336 = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 336},
    "crop_size": {"height": 336, "width": 336},
}
# Keyframes far apart as most encoders leave them, and close together.
GROUPS = (250, 30)
ROUNDS = 3


def run(size: Size, device: torch.device) -> Result:
    """Time both sides on clips made here. Nothing runs on a GPU."""
    for module, package in (
        ("cv2", "opencv-python-headless (benchmarks/requirements.txt)"),
        ("av", "av"),
    ):
        if importlib.util.find_spec(module) is None:
            return Result(skipped=f"decoding is not timed: {package} is not installed.")
    names = ["pyav", *(["decord"] if importlib.util.find_spec("decord") else [])]
    clips, frames, shape = (4, 300, (1080, 1920)) if size is FULL else (3, 24, (96, 128))
    settings = CLIP_336
    if size is not FULL:
        settings = {
            **CLIP_336,
            "size": {"shortest_edge": 64},
            "crop_size": {"height": 64, "width": 64},
        }
    transform = transform_from(settings, "the benchmark")
    result = Result()
    columns = ["clips", "published s a clip", "ours", "ours s a clip", "ratio", "ours clips/s"]
    columns += ["published CPU s", "ours CPU s", "CPU ratio"]
    kind = f"{shape[1]}×{shape[0]} H.264, {frames} frames"
    table = Table(f"Decoding, {size.frames} frames of each clip ({kind})", columns)
    with TemporaryDirectory() as name:
        for group in GROUPS:
            paths = [Path(name) / f"{group}-{i}.mp4" for i in range(2)]
            for i, path in enumerate(paths):
                make_clip(path, frames, shape, group, seed=SEED + i)
            chosen = [(str(i), paths[i % 2]) for i in range(clips)]
            for resized in (False, True):
                prepare = transform.prepare if resized else _as_is
                published, mine = _both(chosen, size.frames, prepare, names)
                what = f"keyframe every {group}, " + ("resized" if resized else "as stored")
                for decoder, ours in mine.items():
                    ratio, work = published.wall / ours.wall, published.cpu / ours.cpu
                    row: list[Cell] = [published.wall, decoder, ours.wall, ratio, 1 / ours.wall]
                    table.rows.append([what, *row, published.cpu, ours.cpu, work])
                    if resized:
                        key = f"decoding/{decoder}/{group}"
                        result.parts |= {
                            f"{key}/ours": ours.wall,
                            f"{key}/published": published.wall,
                        }
            for decoder in names:
                apart = _apart(paths[0], size.frames, decoder)
                result.agreement[
                    f"{decoder}, keyframe every {group}: mean difference of pixels"
                ] = apart
    cores = len(os.sched_getaffinity(0))
    table.notes = [
        f"{clips} clips on {cores} cores, in the disk's cache. Resized: to the tower's "
        f"{transform.size[0]}×{transform.size[1]} by Pillow, on both sides. Published: clip by "
        "clip, with the threads that OpenCV takes by itself. Ours: one thread a core. Median of "
        f"{ROUNDS} rounds in turns; CPU seconds are those of all threads.",
    ]
    result.tables.append(table)
    return result


def make_clip(path: Path, frames: int, shape: tuple[int, int], group: int, seed: int) -> None:
    """An H.264 clip of drifting blocks with some noise, at 30 frames a second."""
    import av

    height, width = shape
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)
    noise = generator.integers(0, 12, (height, width, 1), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = group
        stream.options = {"preset": "veryfast", "crf": "23"}
        stream.time_base = Fraction(1, 30)
        for i in range(frames):
            moved = np.roll(picture, (2 * i, 3 * i), axis=(0, 1)) // 2 + np.roll(noise, 7 * i, 0)
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _as_is(frames: np.ndarray) -> np.ndarray:
    return frames


@dataclass(frozen=True)
class Cost:
    """Seconds of a clip, on the clock and of all cores together."""

    wall: float
    cpu: float


def _both(
    clips: list[tuple[str, Path]],
    n_frames: int,
    prepare: Callable[[np.ndarray], np.ndarray],
    decoders: list[str],
) -> tuple[Cost, dict[str, Cost]]:
    """Both sides in turns, so that a busy moment of the machine meets all of them."""
    from benchmarks.published import decode
    from siglip_study.data.decoding import read_frames

    def published() -> None:
        for _, path in clips:
            prepare(decode.read_frames(path, n_frames))

    def ours(decoder: str) -> None:
        files = [(name, _file(path, decoder)) for name, path in clips]
        for _ in stream_frames(files, read_frames, prepare, n_frames, [1] * len(clips), workers=0):
            pass

    sides: dict[str, Callable[[], None]] = {"published": published}
    sides |= {decoder: partial(ours, decoder) for decoder in decoders}
    for decoder in decoders:  # libraries load
        prepare(read_frames(_file(clips[0][1], decoder), n_frames))
    prepare(decode.read_frames(clips[0][1], n_frames))
    runs: dict[str, list[Cost]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, work in sides.items():
            runs[side].append(_cost(work, len(clips)))
    costs = {
        side: Cost(median(c.wall for c in seen), median(c.cpu for c in seen))
        for side, seen in runs.items()
    }
    return costs.pop("published"), costs


def _cost(work: Callable[[], None], clips: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost((time.perf_counter() - wall) / clips, (time.process_time() - cpu) / clips)


def _file(path: Path, decoder: str) -> ClipFile:
    """A clip as vetting lets this decoder read it: these clips suit both."""
    return ClipFile(path, reading="decord" if decoder == "decord" else "packets")


def _apart(path: Path, n_frames: int, decoder: str) -> float:
    """Mean difference (of 255) between both sides' pixels of the frames that the project reads."""
    from benchmarks.published import decode
    from siglip_study.data.decoding import read_frames
    from siglip_study.data.probing import probe_clip

    info = probe_clip(path)
    wanted = [int(i) for i in frame_indices(info.pts, n_frames, info.duration_s)]
    theirs = decode.read_frames(path, n_frames, wanted)
    ours = read_frames(_file(path, decoder), n_frames)
    return float(np.abs(theirs.astype(int) - ours.astype(int)).mean())
