"""Vision tower: fp32 and one clip a call against the project's feature job."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.inputs import FULL, SEED, Size
from benchmarks.models import tower_folder
from benchmarks.published.tower import encode_one
from benchmarks.tables import Result, Table
from benchmarks.timing import free, measure
from siglip_study.config import RuntimeConfig
from siglip_study.features.encoders import VisionEncoder
from siglip_study.features.overlap import Overlap
from siglip_study.features.pipeline import encode_split, stream_frames

LAST = -1  # the layer that the published study read


class ReadyFrames:
    """A decoder that has its frames at hand, so that decoding is left out."""

    name = "ready"

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames

    def probe(self, path: str | Path) -> Any:
        """Never asked."""
        raise AssertionError("frames are ready; nothing is probed")

    def read(self, path: str | Path, n_frames: int, size: int | None = None) -> np.ndarray:
        """The frames that belong to a path: its name is a number."""
        return self._frames[int(Path(path).name) % len(self._frames)]


def run(size: Size, device: torch.device) -> Result:
    """Time both sides on the same weights and frames."""
    clips = 256 if size is FULL else 6
    batch = RuntimeConfig().encode_batch_clips if size is FULL else 3
    with tower_folder(size, device) as folder:
        encoder = VisionEncoder(str(folder), layer=LAST, device=device)
        height, width = encoder.transform.size
        generator = np.random.default_rng(SEED)
        shape = (min(clips, 16), size.frames, height, width, 3)
        frames = generator.integers(0, 256, shape, dtype=np.uint8)
        decoder = ReadyFrames(frames)
        names = [(str(i), Path(str(i))) for i in range(clips)]
        sizes = [min(batch, clips - start) for start in range(0, clips, batch)]
        encoded: list[Tensor] = []
        accounts: list[Overlap] = []

        def ours(_: int) -> None:
            encoded.clear()
            account = Overlap(device)
            pinned = device.type == "cuda"
            stream = stream_frames(
                names, decoder, encoder.prepare, size.frames, sizes, workers=0, pin=pinned
            )
            for part, _finite in account.encode(stream, encoder.encode_on_device):
                encoded.append(part[:1].clone())
            accounts.append(account.finish())

        def job(_: int) -> None:
            with TemporaryDirectory() as out:
                rows = {"id": [n for n, _ in names], "path": [n for n, _ in names]}
                encode_split(
                    {**rows, "sha256": rows["id"]},
                    "",
                    decoder,
                    encoder,
                    size.frames,
                    batch,
                    0,
                    RuntimeConfig().shard_clips,
                    Path(out) / "features",
                    Path(out) / "resume",
                )

        mine = measure(ours, device, warmup=1, repeats=3)
        written = measure(job, device, warmup=1, repeats=1)
        first = encoded[0][0].float()
        pixels = encoder.transform.normalise(torch.from_numpy(frames[0]))
        del encoder
        free(device)

        from transformers import CLIPVisionModel

        tower: Any = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
        tower = tower.to(device).eval()
        kept: list[Tensor] = []

        def theirs(_: int) -> None:
            kept[:] = [encode_one(tower, pixels)]

        published = measure(theirs, device, warmup=1, repeats=10 if size is FULL else 2)

    account = accounts[-1]
    busy = account.busy_s / account.clips
    result = Result()
    result.agreement["features (root mean square, relative)"] = float(
        (first - kept[0]).pow(2).mean().sqrt() / kept[0].pow(2).mean().sqrt()
    )
    columns = ["a clip", "s", "clips/s", "published / this", "peak GiB", "encoder busy"]
    table = Table(f"Vision tower, {size.frames} frames a clip, decoding left out", columns)
    for name, seconds, peak, share in (
        ("published: fp32, one clip a call", published.seconds, published.peak_gib, None),
        (f"ours: the tower alone, {batch} clips a call", busy, mine.peak_gib, None),
        ("ours: frames in memory to features in memory", mine.seconds / clips, None, account.busy),
        (
            "ours: frames in memory to a feature folder",
            written.seconds / clips,
            written.peak_gib,
            min(1.0, busy * clips / written.seconds),
        ),
    ):
        table.rows.append([name, seconds, 1 / seconds, published.seconds / seconds, peak, share])
    table.notes = [
        f"The last hidden layer, {clips} clips of ready frames. Published: frames already resized "
        "and normalised, one copy to the device and back a clip. Ours: normalised on the device; "
        "the lower rows include all copies, the last one also the disk.",
    ]
    result.tables.append(table)
    result.parts = {
        "tower/ours": mine.seconds / clips,
        "tower/ours/job": written.seconds / clips,
        "tower/published": published.seconds,
    }
    return result
