"""Diagnostics: what a trained model says of no video, and of the mean of all videos.

Greedy decoding then gives one caption for every clip, whose grounding margin is 0 by algebra.
These can therefore never fail, and are no controls: they show what the model falls back on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from siglip_study.captioning.generate import generate_captions
from siglip_study.config.study import CaptionConfig, RuntimeConfig
from siglip_study.models.vlm import VisionLanguageModel

if TYPE_CHECKING:
    from siglip_study.runs.run import Bench

#: Training clips whose features are averaged: as many as the scales are calibrated on.
MEAN_CLIPS = 64


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
        return self._model._embed(rows).to(self._model._embedding.weight.dtype)


def unseeing_records(
    model: VisionLanguageModel,
    bench: Bench,
    split: str,
    settings: CaptionConfig,
    runtime: RuntimeConfig,
) -> list[dict[str, Any]]:
    """One ``captions/1`` record each under the conditions ``blind`` and ``mean``, without a clip.

    ``mean`` shows the mean of the first :data:`MEAN_CLIPS` training clips' features, frame by frame
    and patch by patch. A run on spoiled features is shown the mean of those.
    """
    train = bench.clips("train")
    mean = _mean_features(train.features.batch, train.ids[:MEAN_CLIPS])
    records = []
    for condition, shown in (
        ("blind", cast(VisionLanguageModel, BlindPrompt(model))),
        ("mean", model),
    ):
        (caption,) = generate_captions(
            shown,
            bench.tokenizer,
            [condition],
            lambda ids: mean,
            max_new_tokens=settings.max_new_tokens,
            batch_size=1,
            repetition_penalty=settings.repetition_penalty,
            memory_gb=runtime.memory_gb,
        )
        records.append(
            {
                "id": None,
                "split": split,
                "condition": condition,
                "caption": caption.text,
                "n_tokens": caption.n_tokens,
                "truncated": caption.truncated,
            }
        )
    return records


def _mean_features(batch: Any, ids: Sequence[str]) -> Tensor:
    """``[1, F, P, V]``; a clip at a time, since many together may not fit into memory."""
    total = torch.stack([batch([ids[0]])[0].float()]).zero_()
    for clip in ids:
        total += batch([clip]).float()
    return total / len(ids)
