"""Prepared captions are taken under the very key only, and moved."""

import subprocess
import sys
from pathlib import Path

import pytest

from siglip_study.captioning.handover import handover_folder, take_handover
from siglip_study.config.study import CaptionConfig
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.study.paths import Paths


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "lora").mkdir(parents=True)
    (folder / "projector.safetensors").write_bytes(b"projector")
    (folder / "lora" / "adapter_model.safetensors").write_bytes(b"adapters")
    (folder / "checkpoint.json").write_text("{}")
    return folder


def path(checkpoint, role="report", seed=0, version=1, **settings) -> Path:
    cell = Cell("linear", role, RunSpec(projector="linear", seed=seed))
    return handover_folder(Paths("out"), cell, checkpoint, CaptionConfig(**settings), version)


@pytest.mark.parametrize("name", ["projector.safetensors", "lora/adapter_model.safetensors"])
def test_the_key_follows_the_weights(checkpoint, name):
    before = path(checkpoint)
    (checkpoint / name).write_bytes(b"other weights")
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


def test_taking_moves_both_files(tmp_path):
    handover, out = tmp_path / "handover", tmp_path / "runs" / "cell"
    handover.mkdir()
    for name in ("captions.json", "losses.parquet"):
        (handover / name).write_text(name)
    inode = (handover / "captions.json").stat().st_ino
    assert take_handover(handover, out)
    assert (out / "captions.json").stat().st_ino == inode
    assert (out / "losses.parquet").read_text() == "losses.parquet"
    assert not handover.exists()
    assert not take_handover(handover, out)


@pytest.mark.parametrize("present", ["captions.json", "losses.parquet"])
def test_half_of_the_files_are_not_taken(tmp_path, present):
    handover, out = tmp_path / "handover", tmp_path / "out"
    handover.mkdir()
    (handover / present).write_text(present)
    assert not take_handover(handover, out)
    assert not out.exists()


def test_nothing_heavy_is_imported():
    code = (
        "import sys, siglip_study.captioning.handover; "
        "assert not {'torch', 'transformers', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
