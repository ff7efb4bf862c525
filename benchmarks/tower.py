"""Vision tower: fp32 and one clip a call against the project's feature job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.inputs import FULL, SEED, Size, manifest_rows
from benchmarks.models import tower_folder
from benchmarks.published.tower import encode_one
from benchmarks.tables import Result, Table
from benchmarks.timing import Timing, free, measure
from siglip_study.config.study import RuntimeConfig
from siglip_study.data.clips import ClipFile
from siglip_study.features.images import load_transform
from siglip_study.features.pipeline import Overlap, encode_split, stream_frames
from siglip_study.features.towers import VisionEncoder

LAST = -1  # the layer that the published study read
RUNTIME = RuntimeConfig()


@dataclass
class Ours:
    """The project's side: frames to features in memory, the whole job, and the first clip."""

    memory: Timing
    account: Overlap
    job: Timing  # None: this machine has no PyAV, which the job's decoders need
    first: Tensor


def run(size: Size, device: torch.device) -> Result:
    """Time both sides on the same weights and frames."""
    clips, batch = (256, RUNTIME.encode_batch_clips) if size is FULL else (6, 3)
    with tower_folder(size, device) as folder:
        transform = load_transform(str(folder), None, "vision.model")
        shape = (min(clips, 16), size.frames, *transform.size, 3)
        frames = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
        mine = _project(folder, frames, clips, batch, device)
        free(device)
        pixels = transform.normalise(torch.from_numpy(frames[0]))
        published, features = _published(folder, pixels, 10 if size is FULL else 2, device)

    busy = mine.account.busy_s / mine.account.clips
    memory = mine.memory.seconds / clips
    job = mine.job.seconds / clips
    result = Result()
    result.agreement["features (root mean square, relative)"] = float(
        (mine.first - features).pow(2).mean().sqrt() / features.pow(2).mean().sqrt()
    )
    columns = ["a clip", "s", "clips/s", "published / this", "peak GiB", "encoder busy"]
    table = Table(f"Vision tower, {size.frames} frames a clip, decoding left out", columns)
    rows: list[tuple[str, float, float | None, float | None]] = [
        ("published: fp32, one clip a call", published.seconds, published.peak_gib, None),
        (f"ours: the tower alone, {batch} clips a call", busy, None, None),
        ("ours: frames in memory to features in memory", memory, mine.memory.peak_gib, None),
    ]
    rows.append(("ours: frames in memory to a feature folder", job, None, min(1, busy / job)))
    for name, seconds, peak, share in rows:
        table.rows.append([name, seconds, 1 / seconds, published.seconds / seconds, peak, share])
    table.rows[2][-1] = mine.account.busy
    table.notes = [
        f"The last hidden layer, {clips} clips of ready frames. Published: frames already resized "
        "and normalised, one copy to the device and back a clip. Ours: normalised on the device; "
        "the lower rows include all copies, the last one also the disk.",
    ]
    result.tables.append(table)
    result.parts = {"tower/ours": job, "tower/published": published.seconds}
    return result


def _project(
    folder: Path, frames: np.ndarray, clips: int, batch: int, device: torch.device
) -> Ours:
    encoder = VisionEncoder(str(folder), layer=LAST, device=device)
    names = [str(i) for i in range(clips)]

    def ready(clip: ClipFile, n: int) -> np.ndarray:
        """Frames at hand, so that decoding is left out; the file's name is a number."""
        found: np.ndarray = frames[int(clip.path.name) % len(frames)]
        return found

    n_frames = frames.shape[1]
    sizes = [min(batch, clips - start) for start in range(0, clips, batch)]
    accounts: list[Overlap] = []
    first: list[Tensor] = []

    def in_memory(_: int) -> None:
        account = Overlap(device)
        pin = device.type == "cuda"
        stream = stream_frames(
            [(name, ClipFile(Path(name))) for name in names],
            ready,
            encoder.prepare,
            n_frames,
            sizes,
            workers=0,
            pin=pin,
        )
        for features, _finite in account.encode(stream, encoder.encode_on_device):
            if not first:
                first.append(features[0].float())
        accounts.append(account.finish())

    def whole_job(_: int) -> None:
        with TemporaryDirectory() as out:
            encode_split(
                manifest_rows(names),
                Path(),
                ready,
                encoder,
                n_frames,
                batch,
                0,
                RUNTIME.shard_clips,
                Path(out) / "features",
                Path(out) / "resume",
            )

    memory = measure(in_memory, device, warmup=1, repeats=3)
    job = measure(whole_job, device, warmup=1, repeats=1)
    return Ours(memory, accounts[-1], job, first[0])


def _published(
    folder: Path, pixels: Tensor, repeats: int, device: torch.device
) -> tuple[Timing, Tensor]:
    from transformers import CLIPVisionModel

    tower: Any = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
    work: Callable[[int], Tensor] = lambda _: encode_one(tower, pixels)  # noqa: E731
    tower.to(device).eval()
    return measure(work, device, warmup=1, repeats=repeats), work(0)
