"""The frozen towers, timed on this machine with random weights; decoding of clips apart."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from siglip_study.config.study import Config, RuntimeConfig, ScorerConfig
from siglip_study.models.architectures import architecture, image_processor
from siglip_study.models.devices import pick_device
from siglip_study.models.hub import cached_file, is_folder
from siglip_study.planning.rows import Cost, measured, wait


def measure_features(config: Config) -> Cost:
    """One clip through a vision encoder of random weights, in a batch, decoding apart."""
    from siglip_study.features.towers import VisionEncoder

    vision, device = config.vision, config.runtime.device
    on_device = pick_device(device)
    with measured(on_device) as meter:
        encoder = VisionEncoder(
            vision.model, vision.revision, vision.layer, device=device, weights="random"
        )
        clips = _clips(config.runtime, on_device.type)
        frames = _frames(clips, vision.frames, encoder.facts["image_size"])
        meter.seconds = _per_clip(lambda: encoder.encode_prepared(frames), clips, encoder.device)
    return meter.cost


def measure_scorer(config: Config, texts_a_caption: int) -> tuple[Cost, Cost]:
    """One clip's frames, and one caption's texts, through a scorer of random weights."""
    from siglip_study.features.scorer import Scorer

    settings, device = config.scorer, config.runtime.device
    on_device = pick_device(device)
    with _with_tokenizer(settings) as (model, revision):
        with measured(on_device) as images:
            scorer = Scorer(model, revision, settings.lowercase, device=device, weights="random")
            clips = _clips(config.runtime, on_device.type)
            shown = _frames(clips, settings.frames, scorer.facts["image_size"])
            frames = np.stack([scorer.prepare(clip) for clip in shown])
            images.seconds = _per_clip(
                lambda: scorer.image_embeddings_prepared(frames), clips, on_device
            )
        if images.problem:
            return images.cost, images.cost
        with measured(on_device) as texts:
            texts_a_pass = 512 if on_device.type == "cuda" else 16
            captions = max(1, texts_a_pass // texts_a_caption)
            some = [f"{i} 영상에는 빨간 공이 굴러간다." for i in range(captions * texts_a_caption)]
            texts.seconds = _per_clip(lambda: scorer.text_embeddings(some), captions, on_device)
    return images.cost, texts.cost


@contextmanager
def _with_tokenizer(settings: ScorerConfig) -> Iterator[tuple[str, str | None]]:
    """The scorer if its tokenizer is at hand, else a folder of its sizes with a stand-in's."""
    model, revision = settings.model, settings.revision
    if is_folder(model) or cached_file(model, revision, "tokenizer_config.json") is not None:
        yield model, revision
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = {
            "config.json": architecture(model, revision, "scorer.model"),
            "preprocessor_config.json": image_processor(model) or {},
        }
        for name, content in sizes.items():
            Path(folder, name).write_text(json.dumps(content), encoding="utf-8")
        _stand_in_tokenizer().save_pretrained(folder)
        yield folder, None


def _stand_in_tokenizer() -> Any:
    """Any word is one token: enough where texts are padded to one length anyway."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")


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
