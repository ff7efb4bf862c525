"""Losses of several captions under one video: the prompt is read once, not once a caption.

A prompt of 4,608 video tokens is ten times as long as its caption; with five captions a video this
is the difference between five prompts and one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
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
from siglip_study.captioning.generate import embed_prompts
from siglip_study.models.fast_layers import head_cross_entropy
from siglip_study.models.vlm import VisionLanguageModel

Tokens = Sequence[int]


def can_share_prompts(model: object) -> bool:
    """Whether a dense cache describes this model's layers, and a mask all of its attention."""
    if not isinstance(model, VisionLanguageModel):
        return False
    llm = model._causal_lm
    return layer_windows(llm.config) is not None and can_group(llm)


@torch.no_grad()
def losses_under_videos(
    model: VisionLanguageModel,
    features: Callable[[list[int]], Tensor],
    captions: Sequence[Sequence[Tokens]],
    most: int,
) -> list[list[float]]:
    """Summed loss (nats) of each caption after each of its videos' prompts.

    Args:
        model: projector and LLM.
        features: gives ``[B, F, P, V]`` for video numbers.
        captions: for each video the captions tried with it, token ids that end in EOS; the same
            number for every video.
        most: videos read together, at most.

    Returns:
        for each video the losses of its captions, in their order.
    """
    model.eval()
    windows = layer_windows(model._causal_lm.config)
    if windows is None or not can_share_prompts(model):
        raise ValueError("a dense cache does not describe this model; see can_share_prompts")
    length = model.prompt_length(features([0]))
    longest = max(len(caption) for tried in captions for caption in tried)
    most = min(most, generate.prefill_rows(length))
    losses: list[list[float]] = []
    for start in range(0, len(captions), most):
        videos = list(range(start, min(start + most, len(captions))))
        cache = DenseCache(windows, len(videos), -(-(length + longest) // 8) * 8)
        hidden = prefill(model, embed_prompts(model, features(videos)), cache)
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
        config = model._causal_lm.config
        masks = causal_masks(config, cache.windows, positions, end)
        with grouped(config), autocast(model), cache.fixed(positions, end):
            after: Tensor = model._backbone(
                inputs_embeds=model._embed(fed),
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
    losses = head_cross_entropy(states[rows, places], model._head, targets)
    return torch.zeros(len(captions), device=device).index_add_(0, rows, losses)
