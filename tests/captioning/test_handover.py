"""Prepared captions are taken under the very key only, and moved."""

import subprocess
import sys
from pathlib import Path

import pytest

from siglip_study.captioning.handover import hand_over, handover_folder, take_handover
from siglip_study.config.study import CaptionConfig
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.study.paths import Paths
from tools.fault_campaign import DAMAGES

SPLITS = ("train", "selection", "report")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "lora").mkdir(parents=True)
    (folder / "projector.safetensors").write_bytes(b"projector")
    (folder / "lora" / "adapter_model.safetensors").write_bytes(b"adapters")
    (folder / "checkpoint.json").write_text("{}")
    for split in SPLITS:
        (tmp_path / split).mkdir()
        (tmp_path / split / "index.json").write_text(split)
        (tmp_path / f"{split}.parquet").write_text(split)
    return folder


def path(checkpoint, role="report", seed=0, version=1, **settings) -> Path:
    cell = Cell("linear", role, RunSpec(projector="linear", seed=seed))
    features = {split: checkpoint.parent / split for split in SPLITS}
    clips = {split: checkpoint.with_name(f"{split}.parquet") for split in SPLITS}
    chosen = CaptionConfig(**settings)
    return handover_folder(Paths("out"), cell, checkpoint, clips, features, chosen, version)


@pytest.fixture
def handover(tmp_path: Path) -> Path:
    """Captions as training leaves them."""
    with hand_over(tmp_path / "handover") as folder:
        for name in ("captions.json", "losses.parquet"):
            (folder / name).write_text(name)
    return tmp_path / "handover"


@pytest.mark.parametrize("name", ["projector.safetensors", "lora/adapter_model.safetensors"])
def test_the_key_follows_the_weights(checkpoint, name):
    before = path(checkpoint)
    (checkpoint / name).write_bytes(b"other weights")
    assert path(checkpoint) != before


@pytest.mark.parametrize("name", ["report/index.json", "report.parquet"])
def test_the_key_follows_features_and_clips_of_what_is_captioned(checkpoint, name):
    before = path(checkpoint)
    checkpoint.with_name("selection.parquet").write_bytes(b"other clips")
    assert path(checkpoint) == before
    (checkpoint.parent / name).write_text("made anew")
    assert path(checkpoint) != before


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 9},
        {"repetition_penalty": 1.2},
        {"shuffles": 1},
        {"version": 2},
        {"role": "tuning"},
        {"seed": 1},
    ],
)
def test_the_key_follows_what_decides_captions_and_losses(checkpoint, change):
    assert path(checkpoint, **change) != path(checkpoint) == path(checkpoint, batch_size=1)


def test_taking_moves_both_files(handover, tmp_path):
    out = tmp_path / "runs" / "cell"
    inode = (handover / "captions.json").stat().st_ino
    assert take_handover(handover, out)
    assert (out / "captions.json").stat().st_ino == inode
    assert (out / "losses.parquet").read_text() == "losses.parquet"
    assert not handover.exists()
    assert not take_handover(handover, out)


@pytest.mark.parametrize("name", ["captions.json", "losses.parquet", "handover.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_dropped_and_said(handover, tmp_path, caplog, name, damage):
    damage(handover / name)
    assert not take_handover(handover, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not handover.exists()
    assert "made anew from the checkpoint" in caplog.text


def test_nothing_heavy_is_imported():
    code = (
        "import sys, siglip_study.captioning.handover; "
        "assert not {'torch', 'transformers', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
