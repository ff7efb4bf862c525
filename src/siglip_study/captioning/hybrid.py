"""Captions of models whose layers a dense cache does not describe, through transformers' own."""

from __future__ import annotations

import torch
from torch import Tensor

from siglip_study.captioning.batch import Limits
from siglip_study.captioning.decoding import autocast
from siglip_study.models.vlm import VisionLanguageModel


def generate(model: VisionLanguageModel, prompt: Tensor, limits: Limits) -> Tensor:
    """Greedy token ids ``[B, n <= max_new_tokens]`` after prompts ``[B, S, L]``."""
    with autocast(model):
        new: Tensor = model.llm.generate(  # type: ignore[operator]
            inputs_embeds=prompt,
            attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device),
            max_new_tokens=limits.max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=limits.repetition_penalty,
            eos_token_id=limits.eos,
            pad_token_id=model.layout.pad,
            # Explicit: a model's own generation config may sample or switch the cache off.
            use_cache=True,
            temperature=None,
            top_p=None,
            top_k=None,
        )
    return new
