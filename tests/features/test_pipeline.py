import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from support.kept import frame_facts
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.data.clips import ClipFile
from siglip_study.data.decoding import read_frames
from siglip_study.features.pipeline import embed_split, encode_split, stream_frames
from siglip_study.features.scorer import Scorer
from siglip_study.features.store import FeatureStore, read_frame_embeddings
from siglip_study.features.towers import VisionEncoder

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
Dataset = tuple[Path, pl.DataFrame]


class MeanColour:
    """A stand-in whose feature is the frame's mean colour; can fail after some batches."""

    facts: dict[str, Any] = {"model": "mean"}  # noqa: RUF012
    device = torch.device("cpu")

    def __init__(self, fail_after: int = 99) -> None:
        self.left = fail_after
        self.clips = 0
        self.batches: list[int] = []

    def prepare(self, frames: np.ndarray) -> np.ndarray:
        return frames[:, :8, :8]

    def encode_on_device(self, frames: Tensor) -> Tensor:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.clips += len(frames)
        self.batches.append(len(frames))
        return frames.float().mean(dim=(2, 3))[:, :, None, :]


def run(dataset: Dataset, encoder: Any, folder: Path, **options: Any) -> None:
    root, rows = dataset
    settings: dict[str, Any] = {"n_frames": 3, "batch_clips": 2, "workers": 2, "shard_clips": 3}
    encode_split(
        rows,
        root,
        read_frames,
        encoder,
        **{**settings, **options},
        folder=folder / "out",
        resume_folder=folder / "work",
    )


def test_each_clip_gets_its_own_features(dataset, towers, tmp_path):
    root, rows = dataset
    encoder = VisionEncoder(str(towers["clip"]))
    run(dataset, encoder, tmp_path)
    store = FeatureStore(tmp_path / "out")
    assert list(store.ids) == rows["id"].to_list() and store.shape == (3, 16, 32)
    assert store.facts == {**encoder.facts, "frames": 3}
    for clip, path in rows.select("id", "path").iter_rows():
        frames = read_frames(ClipFile(root / path), 3)
        alone = encoder.encode(frames[None])[0]
        assert torch.allclose(store[clip].float(), alone.float(), atol=2e-2)


@pytest.mark.parametrize(("batch", "workers", "shard"), [(1, 1, 1), (3, 4, 7), (16, 2, 100)])
def test_order_does_not_depend_on_batches_workers_or_shards(
    dataset, tmp_path, batch, workers, shard
):
    run(dataset, MeanColour(), tmp_path / "a")
    run(
        dataset,
        MeanColour(),
        tmp_path / "b",
        batch_clips=batch,
        workers=workers,
        shard_clips=shard,
    )
    one, two = FeatureStore(tmp_path / "a/out"), FeatureStore(tmp_path / "b/out")
    assert all(torch.equal(one[clip], two[clip]) for clip in one.ids)
    # Clips are told apart by their grey level, 30 apart.
    level = torch.stack([one[clip].float().mean() for clip in one.ids])
    assert (level.diff() > 20).all()


def test_a_resumed_job_forms_the_same_batches(dataset, tmp_path):
    whole, again = MeanColour(), MeanColour()
    run(dataset, whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(dataset, MeanColour(fail_after=3), tmp_path)
    run(dataset, again, tmp_path)
    assert whole.batches == [2, 1, 2, 1, 1] and again.batches == [2, 1, 1]


def test_a_bad_clip_is_named_and_costs_no_finished_shard(dataset, tmp_path):
    root, rows = dataset
    paths = [str(root / p) for p in rows["path"]]
    bad = rows.with_columns(path=pl.Series([*paths[:5], str(tmp_path / "empty.mp4"), ""]))
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(StudyError, match=r"clip '장면/5' .*empty\.mp4.*zero bytes"):
        run((root, bad), MeanColour(), tmp_path)
    assert not (tmp_path / "out").exists()
    again = MeanColour()
    run((root, rows.with_columns(path=pl.Series(paths))), again, tmp_path)
    assert again.clips == 4 and len(FeatureStore(tmp_path / "out")) == 7


def test_clips_of_another_size_are_named(dataset, tmp_path):
    encoder = MeanColour()
    encoder.prepare = lambda frames: frames
    with pytest.raises(StudyError, match=r"clip '장면/1': prepared frames are .* of the other"):
        run(dataset, encoder, tmp_path, workers=1)


def test_the_log_says_what_bounds_the_job(dataset, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(dataset, MeanColour(), tmp_path)
    assert caplog.messages[-1].startswith("out: 7 clips in ")
    assert "clips/s, encoder busy" in caplog.messages[-1] and "bound by" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("modules", "unused"),
    [
        (("features.pipeline", "features.towers", "features.scorer", "metrics.siglip"), "polars"),
        (("features.store",), "transformers"),
    ],
)
def test_imports_stay_cheap(modules, unused):
    code = "\n".join(f"import siglip_study.{module}" for module in modules)
    code += f"\nimport sys; print({unused!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.gpu
def test_copies_beside_the_work_change_nothing(dataset, towers, tmp_path):
    encoder = VisionEncoder(str(towers["clip"]), device="cuda")
    run(dataset, encoder, tmp_path, batch_clips=1)
    store = FeatureStore(tmp_path / "out")
    for clip, path in zip(dataset[1]["id"], dataset[1]["path"], strict=True):
        frames = read_frames(ClipFile(dataset[0] / path), 3)
        assert torch.equal(store[clip], encoder.encode(frames[None])[0])


def test_reading_ahead_is_bounded_and_ends_with_the_consumer():
    started: list[int] = []
    lock = threading.Lock()

    def slow(clip: ClipFile, n_frames: int) -> np.ndarray:
        number = int(clip.path.name)
        with lock:
            started.append(number)
        return np.full((n_frames, 1, 1, 3), number, np.uint8)

    clips = [(str(i), ClipFile(Path(str(i)))) for i in range(100)]
    stream = stream_frames(clips, slow, lambda f: f, 2, [4] * 25, workers=2)
    first = next(stream)
    assert first[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3]
    # The batch that was given, one more batch, and one clip a worker.
    assert len(started) <= 4 + 4 + 2
    stream.close()
    assert len(started) <= 4 + 4 + 2


def test_segments_of_one_file_are_clips(dataset, tmp_path):
    root, rows = dataset
    halves = rows[:2].with_columns(
        path=pl.lit("0.mp4"), start_s=pl.Series([0.0, 0.3]), end_s=pl.Series([0.3, None])
    )
    run((root, halves), MeanColour(), tmp_path, n_frames=1)
    store = FeatureStore(tmp_path / "out")
    # Six frames of 0.1 s; the middles of the halves show the second and the fifth.
    frames = read_frames(ClipFile(root / "0.mp4"), 6)
    for clip, number in zip(store.ids, (1, 4), strict=True):
        assert store[clip].float().mean() == pytest.approx(frames[number, :8, :8].mean(), abs=1)


def test_frame_embeddings_of_a_split(dataset, towers, tmp_path):
    root, rows = dataset
    scorer = Scorer(str(towers["siglip"]))
    path = tmp_path / "report.safetensors"
    embed_split(rows, root, read_frames, scorer, 4, 3, 2, path)
    found = read_frame_embeddings(path)
    assert list(found) == rows["id"].to_list()
    assert frame_facts(path) == {**scorer.facts, "frames": 4}
    frames = read_frames(ClipFile(root / "2.mp4"), 4)
    alone = scorer.encode(frames[None])[0]
    assert torch.allclose(found["장면/2"], alone, atol=1e-5)
    assert torch.allclose(alone.norm(dim=-1), torch.ones(4), atol=1e-5)
