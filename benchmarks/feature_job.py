"""The whole feature job, from 1080p files to a feature folder, and how busy it keeps the GPU."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.decoding import GROUPS, make_clip
from benchmarks.inputs import FULL, SEED, Size, manifest_rows
from benchmarks.models import tower_folder
from benchmarks.published.tower import encode_one
from benchmarks.tables import Result, Table
from benchmarks.timing import free, measure
from siglip_study.config.study import RuntimeConfig
from siglip_study.data.clips import ClipFile
from siglip_study.features.pipeline import Overlap, encode_split, stream_frames
from siglip_study.features.towers import VisionEncoder

LAST = -1  # the layer that the published study read
RUNTIME = RuntimeConfig()


def run(size: Size, device: torch.device) -> Result:
    """Time the job on clips made here, beside the published tower without its decoding."""
    if importlib.util.find_spec("av") is None:
        return Result(skipped="the feature job is not timed: av is not installed.")
    from siglip_study.data.decoding import read_frames

    n_clips, frames, shape = (96, 300, (1080, 1920)) if size is FULL else (6, 24, (96, 128))
    batch = RUNTIME.encode_batch_clips if size is FULL else 3
    cores = len(os.sched_getaffinity(0))
    columns = ["a clip", "s", "clips/s", "published / this", "encoder busy"]
    table = Table(f"From files to features, {size.frames} frames a clip", columns)
    with tower_folder(size, device) as folder, TemporaryDirectory() as made:
        published = _published(folder, size, device)
        table.rows.append(["published: the tower alone", published, 1 / published, 1.0, None])
        encoder: Any = VisionEncoder(str(folder), layer=LAST, device=device)
        for group in GROUPS:
            paths = [Path(made) / f"{group}-{i}.mp4" for i in range(4)]
            for i, path in enumerate(paths):
                make_clip(path, frames, shape, group, seed=SEED + i)
            chosen = [paths[i % len(paths)] for i in range(n_clips)]
            _job(chosen[:batch], read_frames, encoder, size, batch, Path(made))  # warm
            seconds = _job(chosen, read_frames, encoder, size, batch, Path(made)) / n_clips
            busy = _busy(chosen, read_frames, encoder, size, batch)
            what = f"ours: the whole job, keyframe every {group}"
            table.rows.append([what, seconds, 1 / seconds, published / seconds, busy])
    kind = f"{shape[1]}×{shape[0]} H.264 of {frames} frames, in the disk's cache"
    table.notes = [
        f"{n_clips} clips of {kind}; {cores} decoding threads (PyAV). The published side decodes "
        "with OpenCV on top, which is not in its row. Encoder busy: share of the time in which the "
        "tower had a batch, in a run of its own that writes nothing.",
    ]
    return Result(tables=[table])


def _published(folder: Path, size: Size, device: torch.device) -> float:
    from transformers import CLIPVisionModel

    tower: Any = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    side = tower.config.image_size
    pixels = torch.rand(size.frames, 3, side, side, generator=torch.Generator().manual_seed(SEED))
    seconds = measure(lambda _: encode_one(tower, pixels), device, warmup=1, repeats=5).seconds
    tower = None  # its memory goes before the job begins
    free(device)
    return seconds


def _job(paths: list[Path], read: Any, encoder: Any, size: Size, batch: int, out: Path) -> float:
    """Seconds of the job as a study runs it."""
    rows = manifest_rows([str(path) for path in paths])
    with TemporaryDirectory(dir=out) as name:
        targets = Path(name) / "features", Path(name) / "resume"
        began = time.perf_counter()
        encode_split(
            rows, Path(), read, encoder, size.frames, batch, 0, RUNTIME.shard_clips, *targets
        )
        return time.perf_counter() - began


def _busy(paths: list[Path], read: Any, encoder: Any, size: Size, batch: int) -> float:
    account = Overlap(encoder.device)
    clips = [(str(i), ClipFile(path, reading="packets")) for i, path in enumerate(paths)]
    sizes = [min(batch, len(clips) - start) for start in range(0, len(clips), batch)]
    pin = encoder.device.type == "cuda"
    stream = stream_frames(clips, read, encoder.prepare, size.frames, sizes, workers=0, pin=pin)
    for _ in account.encode(stream, encoder.encode_on_device):
        pass
    return float(account.finish().busy)
