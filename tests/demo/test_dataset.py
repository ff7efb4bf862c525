"""The demo's clips are real H.264, repeatable, balanced, and never in two splits."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from support.clips import every_frame

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.demo.dataset import plan_dataset, write_dataset
from siglip_study.demo.facts import parse_facts
from siglip_study.demo.render import render_frames
from siglip_study.demo.world import ATTRIBUTES, facts

SIZES = {"train": 6, "selection": 3, "report": 3}
DEFAULT = {"train": 200, "selection": 60, "report": 60}


def fingerprint(root: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    labels = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.json")}
    hashes = {p.name: hashlib.sha256(every_frame(p).tobytes()) for p in root.rglob("*.mp4")}
    return labels, {name: found.hexdigest() for name, found in hashes.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_dataset(folder, SIZES, seed=7)
    return folder


def test_layout_and_labels(root):
    truth = read_json(root / "facts.json", "facts/1")
    ids = set(truth) - {"schema"}
    assert len(ids) == sum(SIZES.values())
    for split, n in SIZES.items():
        videos = sorted((root / split / "videos").iterdir())
        labels = sorted((root / split / "labels").iterdir())
        assert [v.stem for v in videos] == [label.stem for label in labels]
        assert len(videos) == n
        assert {v.stem for v in videos} <= ids
        for path in labels:
            label = json.loads(path.read_text(encoding="utf-8"))
            assert set(label) >= {"info", "annotation", "meta"}
            assert label["meta"]["category"] == truth[path.stem]["place"]
            stated = parse_facts(label["annotation"]["description_kr"])
            assert all(v in (None, truth[path.stem][a]) for a, v in stated.items())
            # The answers are nowhere in the label but in the caption and the category.
            assert "facts" not in path.read_text() and "motion" not in path.read_text()


def test_clips_are_h264_and_show_their_scenes(root):
    for clip in plan_dataset(SIZES, seed=7):
        path = root / clip.split / "videos" / f"{clip.id}.mp4"
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, stream.average_rate) == (96, 96, 8)
        frames = every_frame(path)
        assert len(frames) == clip.n_frames
        assert 16 <= clip.n_frames <= 32
        drawn = render_frames(clip.scene, clip.n_frames, 96)
        assert np.abs(frames.astype(float) - drawn).mean() < 8


def test_same_seed_same_data_whatever_the_processes(root, tmp_path):
    write_dataset(tmp_path / "again", SIZES, seed=7, processes=1)
    write_dataset(tmp_path / "other", SIZES, seed=8)
    assert fingerprint(tmp_path / "again") == fingerprint(root)
    labels, frames = fingerprint(tmp_path / "other")
    assert labels != fingerprint(root)[0]
    assert not set(frames.values()) & set(fingerprint(root)[1].values())


def test_no_scene_in_two_splits():
    clips = plan_dataset(DEFAULT, seed=7)
    assert len({tuple(facts(clip.scene).values()) for clip in clips}) == len(clips)
    assert len({clip.scene.render_seed for clip in clips}) == len(clips)
    assert len({clip.id for clip in clips}) == len(clips)


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_values_are_balanced_in_every_split(seed):
    clips = plan_dataset(DEFAULT, seed=seed)
    for split, n in DEFAULT.items():
        for attribute, values in ATTRIBUTES.items():
            counts = Counter(getattr(c.scene, attribute) for c in clips if c.split == split)
            fair = n / len(values)
            assert all(0.7 * fair <= counts[value] <= 1.3 * fair for value in values), counts


@pytest.mark.parametrize(
    ("sizes", "said"), [({"validation": 3}, "validation"), ({"train": 10**6}, "at most 5000")]
)
def test_bad_sizes_end_in_one_sentence(tmp_path, sizes, said):
    with pytest.raises(StudyError, match=said):
        write_dataset(tmp_path, sizes, seed=0)
    assert not list(tmp_path.iterdir())


def test_an_empty_split_and_a_single_clip_are_fine(tmp_path):
    write_dataset(tmp_path, {"train": 1, "report": 0}, seed=0)
    assert [p.name for p in (tmp_path / "train" / "videos").iterdir()] == ["train_0000.mp4"]
    assert set(read_json(tmp_path / "facts.json", "facts/1")) == {"schema", "train_0000"}


def test_fewer_clips_than_before_leave_none_of_those(tmp_path):
    for sizes in ({"train": 2, "report": 1}, {"train": 1}):
        write_dataset(tmp_path, sizes, seed=0)
    assert [p.name for p in tmp_path.rglob("*.mp4")] == ["train_0000.mp4"]


def test_the_world_needs_no_torch():
    names = "world, render, captions, facts, dataset"
    code = f"import sys; from siglip_study.demo import {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
