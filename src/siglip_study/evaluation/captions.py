"""Captions of a cell, and the losses of the references under the right and the wrong video."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.captioning import generate_captions
from siglip_study.config import CaptionConfig, RuntimeConfig
from siglip_study.grid import Cell
from siglip_study.io import write_json, write_parquet
from siglip_study.training.checkpoint import load_projector
from siglip_study.training.clips import Clips, derangement
from siglip_study.training.loop import caption_losses
from siglip_study.training.stages import Bench, Inputs, use_device
from siglip_study.vlm import VisionLanguageModel

log = logging.getLogger(__name__)


def run_captions(
    cell: Cell,
    inputs: Inputs,
    checkpoint: Path,
    out: Path,
    settings: CaptionConfig,
    runtime: RuntimeConfig,
    progress: Callable[[], str],
) -> None:
    """Caption the cell's split; write ``captions.json`` and ``losses.parquet``."""
    name, run, split = cell.name, cell.run, cell.captioned
    began = time.monotonic()
    bench = Bench(run, inputs, use_device(runtime))
    model = bench.model(adapters=checkpoint)
    load_projector(checkpoint, model)
    clips = bench.clips(split)
    captions = generate_captions(
        model,
        bench.tokenizer,
        clips.ids,
        clips.features.batch,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        repetition_penalty=settings.repetition_penalty,
    )
    losses = condition_losses(model, bench, clips, split, settings.shuffles, runtime)
    write_parquet(out / "losses.parquet", losses)
    records = [
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
    wall = time.monotonic() - began
    cost = {"wall_s": wall, "gpu_s": wall if bench.accelerator.device.type == "cuda" else 0.0}
    write_json(out / "captions.json", {"cell": name, **cost, "records": records}, "captions/1")
    log.info("%s · captioned %d clips · %.0f s · %s", name, len(records), wall, progress())


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
    derangements that are the same for every cell. ``reversed``: its own with the frames in reverse order.
    """
    captions = [options[0] for options in clips.captions]

    def losses(order: list[int], reverse: bool = False) -> list[float]:
        def features(rows: list[int]) -> Any:
            batch = clips.features.batch([clips.ids[order[i]] for i in rows])
            return batch.flip(1) if reverse else batch

        sums, lengths = caption_losses(
            model, features, captions, runtime.eval_batch_clips, bench.accelerator
        )
        return [total / n for total, n in zip(sums, lengths, strict=True)]

    own = list(range(len(clips)))
    tries = [losses(derangement(len(clips), "shuffled", split, k)) for k in range(shuffles)]
    by_condition = {
        "matched": losses(own),
        "shuffled": [sum(values) / shuffles for values in zip(*tries, strict=True)],
        "reversed": losses(own, reverse=True),
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
