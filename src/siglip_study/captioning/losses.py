"""Losses of a cell's references under the right and the wrong video.

Several captions are tried under one video, whose prompt is read once: a prompt of 4,608 video
tokens is ten times as long as its caption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch import Tensor

from siglip_study.captioning import generate
from siglip_study.captioning.cache import (
    DenseCache,
    can_group,
    causal_masks,
    grouped,
    layer_windows,
)
from siglip_study.captioning.decoding import autocast, prefill
from siglip_study.models.fast_layers import head_cross_entropy
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips, caption_losses, derangement

if TYPE_CHECKING:
    import polars as pl

Tokens = Sequence[int]
#: Numbers of videos → their features ``[B, F, P, V]``.
VideoBatch = Callable[[list[int]], Tensor]


def condition_losses(
    model: VisionLanguageModel,
    clips: Clips,
    split: str,
    shuffles: int,
    batch: int,
    accelerator: Accelerator,
) -> pl.DataFrame:
    """Mean loss a target token (nats) of each clip's first caption under three conditions.

    ``matched``: its own video. ``shuffled``: another clip's, averaged over ``shuffles``
    derangements, seeded by the split's name, that are the same for every cell. ``reversed``: its
    own, frames in reverse order. At most ``batch`` videos share a forward pass.
    """
    captions = [options[0] for options in clips.captions]
    own = list(range(len(clips)))
    orders = [derangement(len(clips), "shuffled", split, k) for k in range(shuffles)]

    def forwards(videos: list[int]) -> Tensor:
        return clips.features.batch([clips.ids[i] for i in videos])

    def backwards(videos: list[int]) -> Tensor:
        return forwards(videos).flip(1)

    matched, *tries = _losses_by_order(
        model, forwards, captions, [own, *orders], batch, accelerator
    )
    [reverse] = _losses_by_order(model, backwards, captions, [own], batch, accelerator)
    shuffled = [sum(values) / shuffles for values in zip(*tries, strict=True)]
    import polars as pl  # the rehearsal, which times the rest, runs without tables

    facts = {"id": clips.ids, "split": split}
    n_tokens = [len(caption) for caption in captions]
    return pl.concat(
        pl.DataFrame({**facts, "condition": condition, "loss": values, "n_tokens": n_tokens})
        for condition, values in (
            ("matched", matched),
            ("shuffled", shuffled),
            ("reversed", reverse),
        )
    )


def _losses_by_order(
    model: VisionLanguageModel,
    videos: VideoBatch,
    captions: list[tuple[int, ...]],
    orders: list[list[int]],
    batch: int,
    accelerator: Accelerator,
) -> list[list[float]]:
    """Mean losses of all captions, for each order: caption i is tried with video order[i].

    Each prompt is read once where the model allows.
    """
    if can_share_prompts(model):
        # Which caption a video is tried with in each order: the inverse of a caption's video.
        own = range(len(captions))
        tried = [[captions[order.index(video)] for order in orders] for video in own]
        of_videos = losses_under_videos(model, videos, tried, batch)
        sums = [[of_videos[video][k] for video in order] for k, order in enumerate(orders)]
    else:
        sums = []
        for order in orders:

            def shown(rows: list[int], order: list[int] = order) -> Tensor:
                return videos([order[i] for i in rows])

            sums.append(caption_losses(model, shown, captions, batch, accelerator)[0])
    return [
        [total / len(caption) for total, caption in zip(row, captions, strict=True)] for row in sums
    ]


# ---- One prompt, several captions.


def can_share_prompts(model: VisionLanguageModel) -> bool:
    """Whether a dense cache describes this model's layers, and a mask all of its attention."""
    llm = model.causal_lm
    return layer_windows(llm.config) is not None and can_group(llm)


@torch.no_grad()
def losses_under_videos(
    model: VisionLanguageModel,
    features: VideoBatch,
    captions: Sequence[Sequence[Tokens]],
    most: int,
) -> list[list[float]]:
    """Summed loss (nats) of each caption after its video's prompt: a list a video, in their order.

    Args:
        model: projector and LLM.
        features: gives ``[B, F, P, V]`` for video numbers.
        captions: for each video the captions tried with it, token ids that end in EOS; the same
            number for every video.
        most: videos read together, at most.
    """
    model.eval()
    windows = layer_windows(model.causal_lm.config)
    if windows is None or not can_share_prompts(model):
        raise ValueError("a dense cache does not describe this model; see can_share_prompts")
    length = model.prompt_length(features([0]))
    longest = max(len(caption) for tried in captions for caption in tried)
    most = min(most, generate.prefill_rows(length))
    losses: list[list[float]] = []
    for start in range(0, len(captions), most):
        videos = list(range(start, min(start + most, len(captions))))
        cache = DenseCache(windows, len(videos), -(-(length + longest) // 8) * 8)
        hidden = prefill(model, generate.embed_prompts(model, features(videos)), cache)
        cache.advance(length)
        rounds = zip(*(captions[video] for video in videos), strict=True)
        found = [_losses_after(model, cache, hidden, list(tried)) for tried in rounds]
        losses += torch.stack(found, dim=1).tolist()
    return losses


def _losses_after(
    model: VisionLanguageModel, cache: DenseCache, hidden: Tensor, captions: list[Tokens]
) -> Tensor:
    """Summed losses ``[B]`` of one caption a row, whose prompt the cache holds.

    ``hidden`` ``[B, L]`` are the prompts' last states. The cursor stays: what is written behind it
    is written over by the next captions.
    """
    device, start = hidden.device, cache.cursor.length
    longest = max(len(caption) for caption in captions)
    states = hidden[:, None]
    if longest > 1:
        pad = model.layout.pad
        # The last token predicts nothing, so it is not fed.
        fed = [[*row[:-1], *[pad] * (longest - len(row))] for row in captions]
        end = start + longest - 1
        positions = torch.arange(start, end, device=device)
        config = model.causal_lm.config
        masks = causal_masks(config, cache.windows, positions, end)
        with grouped(config), autocast(model), cache.fixed(positions, end):
            after: Tensor = model.backbone(
                inputs_embeds=model.embed(fed),
                attention_mask=masks,
                position_ids=positions[None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
        states = torch.cat([states, after.to(states.dtype)], dim=1)
    lengths = torch.tensor([len(caption) for caption in captions])
    real = torch.arange(longest) < lengths[:, None]
    rows, places = (index.to(device) for index in real.nonzero(as_tuple=True))
    targets = torch.tensor([token for caption in captions for token in caption], device=device)
    losses = head_cross_entropy(states[rows, places], model.head, targets, model.logit_factor)
    return torch.zeros(len(captions), device=device).index_add_(0, rows, losses)
