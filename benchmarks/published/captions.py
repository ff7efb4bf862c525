"""The published captioning: one clip at a time through transformers' ``generate``.

The image tower was also run again for every caption, and its processor loaded anew; that is left
out here, in its favour.
"""

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
    """New token ids of one clip ``[1, F, P, V]``: greedy, no autocast, adapters kept apart."""
    device = next(projector.parameters()).device
    video = projector(features.to(device).float())
    embed = llm.get_input_embeddings()
    before, after = (
        embed(torch.tensor([ids], dtype=torch.long, device=device))
        for ids in (layout.before, layout.after)
    )
    new = llm.generate(
        inputs_embeds=torch.cat([before, video, after], dim=1),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=repetition_penalty,
        pad_token_id=layout.pad,
        eos_token_id=layout.eos,
    )
    ids: list[int] = new[0].tolist()
    return ids
