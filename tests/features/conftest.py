"""Tiny random towers saved as real checkpoints, and a manifest of small real clips."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.clips import manifest_rows, write_video
from support.tiny_models import (
    CLIP_IMAGES,
    DINO_IMAGES,
    SIGLIP_IMAGES,
    TEXT_SIZES,
    VISION_SIZES,
    byte_level_tokenizer,
)


@pytest.fixture
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def save(model: Any, folder: Path, images: dict[str, Any]) -> Path:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder


def byte_tokenizer(folder: Path) -> None:
    """One token a byte, EOS at the end: token counts can be worked by hand."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = byte_level_tokenizer(["<pad>", "<eos>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", model_max_length=16
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def towers(tmp_path_factory):
    """Checkpoints by model type; "clip" and "siglip" are whole scorers with tokenizers."""
    from transformers import (
        CLIPConfig,
        CLIPModel,
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
        SiglipConfig,
        SiglipModel,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    base = tmp_path_factory.mktemp("towers")
    torch.manual_seed(0)
    dino = {k: v for k, v in VISION_SIZES.items() if k != "intermediate_size"} | {"mlp_ratio": 2}
    made = {
        "clip": save(
            CLIPModel(
                CLIPConfig(vision_config=VISION_SIZES, text_config=TEXT_SIZES, projection_dim=24)
            ),
            base / "clip",
            CLIP_IMAGES,
        ),
        "siglip": save(
            SiglipModel(SiglipConfig(vision_config=VISION_SIZES, text_config=TEXT_SIZES)),
            base / "siglip",
            SIGLIP_IMAGES,
        ),
        "siglip_vision_model": save(
            SiglipVisionModel(SiglipVisionConfig(**VISION_SIZES)),
            base / "siglip_vision",
            SIGLIP_IMAGES,
        ),
        "dinov2": save(Dinov2Model(Dinov2Config(**dino)), base / "dinov2", DINO_IMAGES),
        "dinov2_with_registers": save(
            Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**dino, num_register_tokens=3)),
            base / "registers",
            DINO_IMAGES,
        ),
    }
    for name in ("clip", "siglip"):
        byte_tokenizer(made[name])
    return made


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """A root with seven clips of two sizes, and their manifest rows."""
    root = tmp_path_factory.mktemp("dataset")
    for i in range(7):
        width, height = (64, 48) if i % 2 else (48, 80)
        pictures = [np.full((height, width, 3), 30 * i + 5 * j, np.uint8) for j in range(6)]
        for picture in pictures:
            picture[: height // 2] += 20
        write_video(root / f"{i}.mp4", pictures, range(0, 360, 60))
    return root, manifest_rows([f"{i}.mp4" for i in range(7)], [f"장면/{i}" for i in range(7)])
