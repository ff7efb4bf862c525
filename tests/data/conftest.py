"""Real clips of each kind; edit lists and rotations are patched into the finished mp4."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from support.clips import check_splits, write_clip

from siglip_study.config.study import DataConfig
from tools.bad_inputs import write_sound


def patch(source: Path, target: Path, atom: bytes, offset: int, data: bytes) -> Path:
    content = bytearray(source.read_bytes())
    at = content.index(atom) + 4 + offset
    content[at : at + len(data)] = data
    target.write_bytes(content)
    return target


def rotate(source: Path, target: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write the display matrix (ISO 14496-12: 16.16 fixed, the last entry 2.30)."""
    rows = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return patch(source, target, b"tkhd", 40, struct.pack(">9i", *rows))


def trim(source: Path, target: Path, add_ticks: int) -> Path:
    """Move the start of the edit list by ``add_ticks`` of the media's 1/19200 s."""
    content = source.read_bytes()
    at = content.index(b"elst") + 4 + 12
    start = struct.unpack(">i", content[at : at + 4])[0]
    return patch(source, target, b"elst", 12, struct.pack(">i", start + add_ticks))


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """One clip of each kind, by name."""
    folder = tmp_path_factory.mktemp("clips")
    # 15 frames at 60 a second, then 15 at 10 a second.
    slow_end = np.cumsum([0] + [10] * 14 + [60] * 15).tolist()
    made = {
        "plain": write_clip(folder / "plain.mp4"),
        "b_frames": write_clip(folder / "b_frames.mp4", b_frames=2, gop=10),
        "vfr": write_clip(folder / "vfr.mp4", slow_end),
        "vfr_b": write_clip(folder / "vfr_b.mp4", slow_end, b_frames=2, gop=8),
        "one": write_clip(folder / "one.mp4", [0]),
        "odd": write_clip(folder / "odd.mp4", width=102, height=70),
        "narrow": write_clip(folder / "narrow.mp4", width=72, height=96),
        "ten_bit": write_clip(folder / "ten_bit.mp4", pixels="yuv420p10le"),
    }
    for name, matrix in {
        "clockwise": (0, 1, -1, 0),
        "half_turn": (-1, 0, 0, -1),
        "counter_clockwise": (0, -1, 1, 0),
        "mirrored": (-1, 0, 0, 1),
    }.items():
        made[name] = rotate(made["plain"], folder / f"{name}.mp4", *matrix)
    made["trimmed"] = trim(made["plain"], folder / "trimmed.mp4", 3 * 640)
    made["trimmed_b"] = trim(made["b_frames"], folder / "trimmed_b.mp4", 4 * 640)
    return made


@pytest.fixture(scope="session")
def broken(tmp_path_factory):
    """Broken files by name, each with the kind of its reason."""
    folder = tmp_path_factory.mktemp("broken")
    path = write_clip(folder / "whole.mp4", range(0, 1200, 20), gop=12, faststart=True)
    whole = path.read_bytes()
    with av.open(str(folder / "whole.mp4")) as file:
        border = next(p.pos + p.size for i, p in enumerate(file.demux(video=0)) if i == 40)
    media = whole.index(b"mdat") + 4
    rng = np.random.default_rng(0)
    middle = media + (len(whole) - media) // 2
    contents = {
        "zero_bytes": b"",
        "text": "동영상이 아닙니다.\n".encode(),
        "playlist": f"#EXTM3U\n#EXTINF:1,\n{folder / 'whole.mp4'}\n".encode(),
        "random": rng.bytes(5000),
        "no_index": whole[media:],
        "cut_in_half": whole[: len(whole) // 2],
        "cut_near_the_end": whole[:-20],
        "cut_between_frames": whole[:border],
        "zeroed": whole[:middle] + bytes(len(whole) - middle),
        "scribbled": whole[:middle] + rng.bytes(200) + whole[middle + 200 :],
    }
    made = {name: (folder / f"{name}.mp4", "unreadable") for name in contents}
    for name, content in contents.items():
        made[name][0].write_bytes(content)
    made["audio_only"] = (folder / "audio.mp4", "audio only")
    write_sound(folder / "audio.mp4")
    return made


@pytest.fixture
def build():
    """Manifest and rejected of some splits (ours → folder), each checked by itself."""

    def made(
        root: Path, splits: dict[str, str], **keys: object
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        data = DataConfig.model_construct(**{"splits": splits, "workers": 1, **keys})
        return check_splits(root, data, (8,))

    return made


@pytest.fixture
def aihub(tmp_path, clips):
    """Put a clip and its label into AI-Hub's layout under ``tmp_path``; returns the root."""

    def add(
        name: str,
        split: str = "train",
        clip: Path | None = None,
        caption: object = "빨간 공이 구른다.",
        **meta: object,
    ) -> Path:
        video = tmp_path / split / "videos" / f"{name}.mp4"
        label = tmp_path / split / "labels" / f"{name}.json"
        video.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        content = (clip or clips["plain"]).read_bytes()
        # A box that no decoder reads: without it every clip would be the same file.
        box = b"free" + f"{split}/{name}".encode()
        video.write_bytes(content if clip else content + struct.pack(">I", 4 + len(box)) + box)
        record = {"annotation": {"description_kr": caption}, "meta": meta}
        label.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
        return tmp_path

    return add
