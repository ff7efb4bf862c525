"""Captions of a cell, and the losses of the references under the right and the wrong video."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.base.io import atomic_dir, write_json, write_parquet
from siglip_study.base.jobs import loading
from siglip_study.captioning.blind_captions import unseeing_records
from siglip_study.captioning.generate import generate_captions
from siglip_study.captioning.losses import can_share_prompts, losses_under_videos
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config.study import CaptionConfig, RuntimeConfig
from siglip_study.models.llm import import_libraries
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips, derangement
from siglip_study.runs.losses import caption_losses
from siglip_study.runs.run import Bench, Inputs, load_projector, use_device
from siglip_study.study.cells import Cell

# ---- Captions made right after training, while the model was loaded, until their job asks for
# them.
#
# They lie outside the declared outputs under a key of everything they depend on, so a changed token
# budget finds nothing here and captions are made anew from the checkpoint. Nothing heavy is
# imported:
# taking prepared captions costs no model and no GPU.

_FILES = ("captions.json", "losses.parquet")


def captions_key(cell: Cell, checkpoint: Path, settings: CaptionConfig, version: int) -> list[Any]:
    """What captions depend on: weights, run, splits, settings and the code that makes them."""
    weights = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(checkpoint.rglob("*.safetensors"))
    ]
    chosen = settings.model_dump(exclude={"batch_size"})
    return [cell.name, *cell.captioned, json.dumps(chosen), weights, version]


def take_prepared(prepared: Path, out: Path) -> bool:
    """Move prepared captions to where their job declares them; whether there were any."""
    if not all((prepared / name).is_file() for name in _FILES):
        return False
    out.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        (prepared / name).replace(out / name)
    shutil.rmtree(prepared)
    return True


def write_captions(
    bench: Bench,
    model: VisionLanguageModel,
    cell: Cell,
    settings: CaptionConfig,
    runtime: RuntimeConfig,
    out: Path,
) -> None:
    """Caption the cell's splits; write ``captions.json`` and ``losses.parquet`` into ``out``.

    A split is captioned by itself, so that what is said of it depends on no other split.
    """
    began = time.monotonic()
    records: list[dict[str, Any]] = []
    losses = []
    for split in cell.captioned:
        clips = bench.clips(split)
        captions = generate_captions(
            model,
            bench.tokenizer,
            clips.ids,
            clips.features.batch,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            repetition_penalty=settings.repetition_penalty,
            memory_gb=runtime.memory_gb,
        )
        losses.append(condition_losses(model, bench, clips, split, settings.shuffles, runtime))
        records += [
            {
                "id": clip,
                "split": split,
                "condition": "matched",
                "caption": caption.text,
                "n_tokens": caption.n_tokens,
                "truncated": caption.truncated,
            }
            for clip, caption in zip(clips.ids, captions, strict=True)
        ]
    write_parquet(out / "losses.parquet", pl.concat(losses))
    if cell.role == "report":
        records += unseeing_records(model, bench, cell.captioned[0], settings, runtime)
    wall = time.monotonic() - began
    cost = {"wall_s": wall, "gpu_s": wall if bench.accelerator.device.type == "cuda" else 0.0}
    write_json(out / "captions.json", {"cell": cell.name, **cost, "records": records}, "captions/1")


def caption_from_checkpoint(
    cell: Cell,
    inputs: Inputs,
    checkpoint: Path,
    settings: CaptionConfig,
    runtime: RuntimeConfig,
    out: Path,
) -> None:
    """Load a trained cell and caption its splits."""
    with loading():
        import_libraries(cell.run.llm, adapters=True)
    bench = Bench(cell.run, inputs, use_device(runtime), runtime.memory_gb)
    model = bench.model(adapters=checkpoint)
    load_projector(checkpoint, model)
    model.llm = weights_for_captions(model.llm, cell.run.llm, runtime.memory_gb)
    write_captions(bench, model, cell, settings, runtime, out)


def caption_while_loaded(
    bench: Bench,
    model: VisionLanguageModel,
    cell: Cell,
    settings: CaptionConfig,
    runtime: RuntimeConfig,
    prepared: Path,
) -> None:
    """Caption with a model that has just been trained, so that it is not loaded a second time.

    The weights are made ready as they are when a checkpoint is loaded. Whether an NF4 base is
    unpacked for that depends on the memory that is free, so on a GPU the two may compute in
    different ways and differ by rounding.
    """
    model.llm = weights_for_captions(model.llm, cell.run.llm, runtime.memory_gb)
    with atomic_dir(prepared) as partial:
        write_captions(bench, model, cell, settings, runtime, partial)


def condition_losses(
    model: VisionLanguageModel,
    bench: Bench,
    clips: Clips,
    split: str,
    shuffles: int,
    runtime: RuntimeConfig,
) -> pl.DataFrame:
    """Mean loss a target token (nats) of each reference under three conditions.

    ``matched``: its own video. ``shuffled``: another clip's, averaged over ``shuffles``
    derangements that are the same for every cell. ``reversed``: its own, frames in reverse order.
    """
    captions = [options[0] for options in clips.captions]
    own = list(range(len(clips)))
    orders = [derangement(len(clips), "shuffled", split, k) for k in range(shuffles)]

    def losses(orders: list[list[int]], reverse: bool = False) -> list[list[float]]:
        """Mean losses of all captions, for each order: caption i is tried with video order[i]."""

        def features(videos: list[int]) -> Any:
            batch = clips.features.batch([clips.ids[i] for i in videos])
            return batch.flip(1) if reverse else batch

        sums = _losses_by_order(model, bench, features, captions, orders, runtime)
        return [
            [total / len(caption) for total, caption in zip(row, captions, strict=True)]
            for row in sums
        ]

    matched, *tries = losses([own, *orders])
    by_condition = {
        "matched": matched,
        "shuffled": [sum(values) / shuffles for values in zip(*tries, strict=True)],
        "reversed": losses([own], reverse=True)[0],
    }
    return pl.concat(
        pl.DataFrame(
            {
                "id": clips.ids,
                "split": split,
                "condition": condition,
                "loss": values,
                "n_tokens": [len(caption) for caption in captions],
            }
        )
        for condition, values in by_condition.items()
    )


def _losses_by_order(
    model: VisionLanguageModel,
    bench: Bench,
    features: Callable[[list[int]], Any],
    captions: list[tuple[int, ...]],
    orders: list[list[int]],
    runtime: RuntimeConfig,
) -> list[list[float]]:
    """Summed loss of every caption for each order, each prompt read once where the model allows."""
    batch = runtime.eval_batch_clips
    if not can_share_prompts(model):

        def in_order(order: list[int]) -> list[float]:
            def shown(rows: list[int]) -> Any:
                return features([order[i] for i in rows])

            return caption_losses(model, shown, captions, batch, bench.accelerator)[0]

        return [in_order(order) for order in orders]
    # Which caption a video is tried with in each order: the inverse of which video a caption has.
    tried = [[order.index(video) for order in orders] for video in range(len(captions))]
    sums = losses_under_videos(
        model, features, [[captions[i] for i in row] for row in tried], batch
    )
    result = [[0.0] * len(captions) for _ in orders]
    for row, values in zip(tried, sums, strict=True):
        for k, (caption, value) in enumerate(zip(row, values, strict=True)):
            result[k][caption] = value
    return result
