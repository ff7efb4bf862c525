"""The published captioning: one clip at a time through transformers' ``generate``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from siglip_study.models.llm import PromptLayout


@torch.no_grad()
def caption_one(
    projector: nn.Module,
    llm: Any,
    layout: PromptLayout,
    features: Tensor,
    max_new_tokens: int,
    repetition_penalty: float = 1.2,
) -> list[int]:
    """New token ids of one clip ``[1, F, P, V]``: greedy, with a cache, adapters kept apart."""
    device = next(projector.parameters()).device
    embed = llm.get_input_embeddings()
    before = torch.tensor([layout.before], device=device)
    after = torch.tensor([layout.after], device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        video = projector(features.to(device).float())
        embeds = torch.cat([embed(before), video.to(embed.weight.dtype), embed(after)], dim=1)
        new = llm.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            repetition_penalty=repetition_penalty,
            eos_token_id=layout.eos,
            pad_token_id=layout.pad,
            use_cache=True,
        )
    ids: list[int] = new[0].tolist()
    return ids
