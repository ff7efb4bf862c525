"""Vision tower: fp32 and one clip a call against the project's feature job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.inputs import FULL, SEED, Size, manifest_rows
from benchmarks.models import tower_folder
from benchmarks.published.tower import encode_one
from benchmarks.sides import Found
from benchmarks.tables import Result, Table
from benchmarks.timing import measure
from siglip_study.config.study import RuntimeConfig
from siglip_study.data.clips import ClipFile
from siglip_study.features.images import load_transform
from siglip_study.features.pipeline import Overlap, encode_split, stream_frames
from siglip_study.features.towers import VisionEncoder

LAST = -1  # the layer that the published study read
RUNTIME = RuntimeConfig()


Figures = dict[str, Any]
COMPARED = 4096  # values of the first clip's features that both sides tell


def _work(size: Size, folder: Path) -> tuple[int, int, Any, np.ndarray]:
    """Clips, clips a call, the tower's image transform, and ready frames."""
    clips, batch = (256, RUNTIME.encode_batch_clips) if size is FULL else (6, 3)
    transform = load_transform(str(folder), None, "vision.model")
    shape = (min(clips, 16), size.frames, *transform.size, 3)
    frames = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
    return clips, batch, transform, frames


def run_ours(size: Size, device: torch.device) -> Figures:
    """Frames to features in memory, and the whole job."""
    with tower_folder(size, device) as folder:
        clips, batch, _, frames = _work(size, folder)
        return _project(folder, frames, clips, batch, device)


def run_published(size: Size, device: torch.device) -> Figures:
    """One clip a call."""
    with tower_folder(size, device) as folder:
        transform, frames = _work(size, folder)[2:]
        pixels = transform.normalise(torch.from_numpy(frames[0]))
        return _published(folder, pixels, 10 if size is FULL else 2, device)


#: Each side runs in a process of its own.
SIDES = {"published": run_published, "ours": run_ours}


def table(size: Size, device: torch.device, found: Found) -> Result:
    """Both sides beside each other."""
    mine, theirs = found.first("ours"), found.first("published")
    slow = found.middle("published", "seconds")
    busy, memory, job = (found.middle("ours", key) for key in ("busy", "memory", "job"))
    result = Result()
    own, published = torch.tensor(mine["first"]), torch.tensor(theirs["first"])
    result.agreement["features (root mean square, relative)"] = float(
        (own - published).pow(2).mean().sqrt() / published.pow(2).mean().sqrt()
    )
    columns = ["a clip", "s", "clips/s", "published / this", "peak GiB", "encoder busy"]
    rows: list[tuple[str, float, float | None, float | None]] = [
        ("published: fp32, one clip a call", slow, theirs["peak_gib"], None),
        (f"ours: the tower alone, {mine['batch']} clips a call", busy, None, None),
        (
            "ours: frames in memory to features in memory",
            *(memory, mine["peak_gib"], mine["busy_share"]),
        ),
        ("ours: frames in memory to a feature folder", job, None, min(1, busy / job)),
    ]
    shown = Table(f"Vision tower, {size.frames} frames a clip, decoding left out", columns)
    for name, seconds, peak, share in rows:
        shown.rows.append([name, seconds, 1 / seconds, slow / seconds, peak, share])
    shown.notes = [
        f"The last hidden layer, {mine['clips']} clips of ready frames. Published: frames already "
        "resized and normalised, one copy to the device and back a clip. Ours: normalised on the "
        "device; the lower rows include all copies, the last one also the disk. Processes: "
        f"{found.counted()}; the last row's "
        f"ratio was {found.ratio(['seconds'], ['job']).spread}.",
    ]
    result.tables.append(shown)
    result.parts = {"tower/ours": job, "tower/published": slow}
    return result


def _project(
    folder: Path, frames: np.ndarray, clips: int, batch: int, device: torch.device
) -> Figures:
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
    account = accounts[-1]
    return {
        "busy": account.busy_s / account.clips,
        "busy_share": account.busy,
        "memory": memory.seconds / clips,
        "job": job.seconds / clips,
        "peak_gib": memory.peak_gib,
        "first": first[0].flatten()[:COMPARED].tolist(),
        "clips": clips,
        "batch": batch,
    }


def _published(folder: Path, pixels: Tensor, repeats: int, device: torch.device) -> Figures:
    from transformers import CLIPVisionModel

    tower: Any = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
    work: Callable[[int], Tensor] = lambda _: encode_one(tower, pixels)  # noqa: E731
    tower.to(device).eval()
    timing = measure(work, device, warmup=1, repeats=repeats)
    return {
        "seconds": timing.seconds,
        "peak_gib": timing.peak_gib,
        "first": work(0).flatten()[:COMPARED].tolist(),
    }
