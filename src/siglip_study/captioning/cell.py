"""Captions of a cell: from its checkpoint, or right after training while the model is loaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import polars as pl
import torch
from torch import Tensor

from siglip_study.base.io import write_json, write_parquet
from siglip_study.base.jobs import loading
from siglip_study.captioning.generate import generate_captions
from siglip_study.captioning.handover import hand_over, handover_folder
from siglip_study.captioning.losses import condition_losses
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config.study import CaptionConfig, RuntimeConfig
from siglip_study.models.llm import import_libraries
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.run import Inputs, LoadedRun, load_projector, use_device
from siglip_study.study.cells import Cell
from siglip_study.study.paths import Paths

#: Training clips whose features are averaged: as many as the scales are calibrated on.
MEAN_CLIPS = 64


def caption_from_checkpoint(
    cell: Cell,
    inputs: Inputs,
    checkpoint: Path,
    settings: CaptionConfig,
    runtime: RuntimeConfig,
    out: Path,
) -> None:
    """Load a trained cell, or a first stage alone, and caption its splits."""
    adapted = cell.role != "control_stage1"
    with loading():
        import_libraries(cell.run.llm, adapters=adapted)
    loaded = LoadedRun(cell.run, inputs, use_device(runtime), runtime.memory_gb)
    model = loaded.model(adapters=checkpoint if adapted else None)
    load_projector(checkpoint, model)
    model.llm = weights_for_captions(model.llm, cell.run.llm, runtime.memory_gb)
    write_captions(loaded, model, cell, settings, runtime, out)


def caption_while_loaded(
    loaded: LoadedRun,
    model: VisionLanguageModel,
    cell: Cell,
    settings: CaptionConfig,
    runtime: RuntimeConfig,
    checkpoint: Path,
    paths: Paths,
) -> None:
    """Caption with a model that has just been trained, so that it is not loaded a second time.

    What comes of it is handed over to the job that declares it (:mod:`.handover`). Whether an NF4
    base is unpacked depends on the memory that is free, so on a GPU captions made now and from the
    checkpoint may differ by rounding.
    """
    model.llm = weights_for_captions(model.llm, cell.run.llm, runtime.memory_gb)
    clips, features = loaded.inputs.clips, loaded.inputs.features
    handover = handover_folder(paths, cell, checkpoint, clips, features, settings)
    with hand_over(handover) as partial:
        write_captions(loaded, model, cell, settings, runtime, partial)


def write_captions(
    loaded: LoadedRun,
    model: VisionLanguageModel,
    cell: Cell,
    settings: CaptionConfig,
    runtime: RuntimeConfig,
    out: Path,
) -> None:
    """Caption the cell's splits; write ``captions.json`` and ``losses.parquet`` into ``out``.

    A split is captioned by itself, so that what is said of it depends on no other split. A
    reported cell also says what it falls back on, a record each without a clip: ``blind`` without
    a video, and ``mean`` on the mean of the first :data:`MEAN_CLIPS` training clips' features,
    frame by frame and patch by patch (of a run on spoiled features: the mean of those). Greedy
    decoding gives one caption for every clip then, whose grounding margin is 0 by algebra: these
    can never fail, and are no controls.
    """
    began = time.monotonic()
    records: list[dict[str, Any]] = []
    losses = []

    def say(
        shown: VisionLanguageModel,
        ids: Sequence[str],
        features: Callable[[Sequence[str]], Tensor],
        batch_size: int | None,
    ) -> list[dict[str, Any]]:
        """The captions as the latter half of rows of ``captions/1``."""
        captions = generate_captions(
            shown,
            loaded.tokenizer,
            ids,
            features,
            max_new_tokens=settings.max_new_tokens,
            batch_size=batch_size,
            repetition_penalty=settings.repetition_penalty,
            memory_gb=runtime.memory_gb,
        )
        return [
            {"caption": c.text, "n_tokens": c.n_tokens, "truncated": c.truncated} for c in captions
        ]

    for split in cell.captioned:
        clips = loaded.clips(split)
        said = say(model, clips.ids, clips.features.batch, settings.batch_size)
        records += [
            {"id": clip, "split": split, "condition": "matched", **caption}
            for clip, caption in zip(clips.ids, said, strict=True)
        ]
        batch = runtime.eval_batch_clips
        losses.append(
            condition_losses(model, clips, split, settings.shuffles, batch, loaded.accelerator)
        )
    write_parquet(out / "losses.parquet", pl.concat(losses))
    if cell.role == "report":
        train = loaded.clips("train")
        shown = train.ids[:MEAN_CLIPS]
        # A clip at a time: many together may not fit into memory.
        total = sum((train.features.batch([clip]).float() for clip in shown), torch.zeros(()))
        mean = total / len(shown)  # [1, F, P, V]
        blind = cast(VisionLanguageModel, BlindPrompt(model))
        for condition, asked in (("blind", blind), ("mean", model)):
            [caption] = say(asked, [condition], lambda ids: mean, 1)
            row = {"id": None, "split": cell.captioned[0], "condition": condition}
            records.append(row | caption)
    wall = time.monotonic() - began
    cost = {"wall_s": wall, "gpu_s": wall if loaded.accelerator.device.type == "cuda" else 0.0}
    write_json(out / "captions.json", {"cell": cell.name, **cost, "records": records}, "captions/1")


class BlindPrompt:
    """A model whose prompt is the blind one, the template without the video span."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def prompt_length(self, features: Tensor) -> int:
        """Positions of the blind prompt."""
        return len(self._model.layout.blind)

    def prompt_embeddings(self, features: Tensor) -> Tensor:
        """``[B, …]`` → ``[B, S, L]``, the same whatever the features are."""
        rows = [self._model.layout.blind] * len(features)
        return self._model.embed(rows).to(self._model.embedding.weight.dtype)
