"""The frozen towers, timed on this machine with random weights; decoding of clips apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from siglip_study.config import Config, RuntimeConfig
from siglip_study.devices import pick_device
from siglip_study.rehearsal.meter import measured, wait
from siglip_study.rehearsal.rows import Cost


def measure_features(config: Config) -> Cost:
    """One clip through a vision encoder of random weights, in a batch, decoding apart."""
    from siglip_study.features.encoders import VisionEncoder

    vision, device = config.vision, config.runtime.device
    device_type = pick_device(device).type
    with measured(pick_device(device)) as meter:
        encoder = VisionEncoder(
            vision.model, vision.revision, vision.layer, device=device, weights="random"
        )
        clips = _clips(config.runtime, device_type)
        frames = _frames(clips, vision.frames, encoder.facts["image_size"])
        meter.seconds = _per_clip(lambda: encoder.encode_prepared(frames), clips, encoder.device)
    return meter.cost


def measure_scorer(config: Config, texts_a_caption: int) -> tuple[Cost, Cost]:
    """One clip's frames, and one caption's texts, through a scorer of random weights."""
    from siglip_study.features.scorer import Scorer

    settings, device = config.scorer, config.runtime.device
    device_type = pick_device(device).type
    with measured(pick_device(device)) as images:
        scorer = Scorer(
            settings.model,
            settings.revision,
            settings.lowercase,
            device=device,
            weights="random",
        )
        clips = _clips(config.runtime, device_type)
        frames = _frames(clips, settings.frames, scorer.facts["image_size"])
        images.seconds = _per_clip(
            lambda: scorer.image_embeddings_prepared(frames), clips, scorer.device
        )
    with measured(scorer.device) as texts:
        texts_a_pass = 512 if device_type == "cuda" else 16
        captions = max(1, texts_a_pass // texts_a_caption)
        some = [f"{i} 영상에는 빨간 공이 굴러간다." for i in range(captions * texts_a_caption)]
        texts.seconds = _per_clip(lambda: scorer.text_embeddings(some), captions, scorer.device)
    return images.cost, texts.cost


def _clips(runtime: RuntimeConfig, device_type: str) -> int:
    """Clips encoded together; a CPU gains nothing from many."""
    return min(runtime.encode_batch_clips, 16 if device_type == "cuda" else 2)


def _frames(clips: int, frames: int, size: list[int]) -> Any:
    return np.zeros((clips, frames, size[0], size[1], 3), dtype=np.uint8)


def _per_clip(work: Callable[[], Any], clips: int, device: torch.device) -> float:
    work()
    wait(device)
    began = time.perf_counter()
    work()
    work()
    wait(device)
    return (time.perf_counter() - began) / (2 * clips)
