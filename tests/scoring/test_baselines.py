"""Captioners that train nothing."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from support.features import write_features

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.scoring.baselines import nearest, pooled_features, write_retrieval

FACTS = {"model": "made", "dim": 3, "grid": [1, 2], "patches": 2, "frames": 2}


def test_nearest_removes_the_common_part_first():
    keys = np.array([[10.0, 1.0], [10.0, -1.0], [13.0, 0.0]])
    query = np.array([[12.0, 1.0]])
    # By raw cosine key 0 wins (121 / (10.05 · 12.04) = 1.000; key 2: 12 / 12.04 = .997). Around the
    # keys' mean (11, 0) the query is (1, 1), with cosines 0, −1 and 0.71.
    raw = (query @ keys.T) / np.linalg.norm(keys, axis=1)
    assert raw.argmax() == 0
    assert nearest(query, keys)[0].tolist() == [2]


def test_nearest_of_a_key_is_itself_and_of_keys_all_alike_some_key():
    keys = np.random.default_rng(0).normal(size=(20, 8)) + 50.0
    assert nearest(keys, keys)[0].tolist() == list(range(20))
    assert nearest(np.ones((2, 3)), np.full((4, 3), 7.0))[0].tolist() == [0, 0]


def value(clip: str) -> float:
    """Clips of one number look alike, in whatever split."""
    return float(clip.rsplit("-", 1)[1])


def clip_features(clip: str) -> torch.Tensor:
    """``[2 frames, 2 patches, 3]``; frame 1 differs from frame 0."""
    direction = torch.tensor([np.cos(value(clip)), np.sin(value(clip)), 1.0])
    return torch.stack([direction, -direction])[:, None].repeat(1, 2, 1).bfloat16()


@pytest.fixture
def stores(manifest: pl.DataFrame, tmp_path: Path) -> dict[str, Path]:
    folders = {}
    for split in ("train", "selection", "report"):
        # Stored in another order than the manifest's: only ids may join.
        ids = sorted(manifest.filter(split=split)["id"])
        folders[split] = tmp_path / "features" / split
        write_features(
            folders[split],
            tmp_path / f"work-{split}",
            ids,
            lambda clips: torch.stack([clip_features(c) for c in clips]),
            3,
            FACTS,
        )
    return folders


def test_clip_vectors_average_patches_and_keep_frames_in_order(stores):
    found = pooled_features(stores["train"], ["train-3", "train-0"])
    assert found.shape == (2, 6)
    expected = clip_features("train-3").float().mean(dim=1).flatten().numpy()
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[0][3:], -found[0][:3])


def test_retrieval_says_the_first_caption_of_a_train_clip(manifest, stores, tmp_path):
    out = tmp_path / "retrieval.json"
    write_retrieval(manifest, stores, ("selection", "report"), out)
    told = read_json(out, "captions/1")
    first = {row["id"]: row["captions"][0] for row in manifest.to_dicts()}
    seen = {value(clip): text for clip, text in first.items() if clip.startswith("train")}
    assert told["cell"] == "retrieval" and len(told["records"]) == 10
    held_out = manifest.filter(pl.col("split") != "train")["id"]
    assert {r["id"] for r in told["records"]} == set(held_out)
    for record in told["records"]:
        assert record["id"].startswith(record["split"])
        assert record["condition"] == "matched" and record["truncated"] is False
        # Where a train clip looks exactly like it, that clip's.
        alike = seen.get(value(record["id"]))
        assert record["caption"] in ([alike] if alike else seen.values())


def test_a_clip_without_features_is_named(manifest, stores, tmp_path):
    stores["report"] = stores["selection"]
    with pytest.raises(StudyError, match="no features of clip 'report-3'"):
        write_retrieval(manifest, stores, ("report",), tmp_path / "a")
    assert not (tmp_path / "a").exists()
