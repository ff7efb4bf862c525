"""Batched greedy captioning with a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from siglip_study.vlm import VisionLanguageModel


@dataclass(frozen=True)
class Caption:
    """A generated caption; ``truncated`` when the token budget ended it before EOS did."""

    text: str
    n_tokens: int
    truncated: bool


@torch.no_grad()
def generate_captions(
    model: VisionLanguageModel,
    tokenizer: Any,
    ids: Sequence[str],
    features: Callable[[Sequence[str]], Tensor],
    *,
    max_new_tokens: int,
    batch_size: int,
    repetition_penalty: float = 1.0,
    device: torch.device | None = None,
) -> list[Caption]:
    """Caption clips greedily, in the order of ``ids``.

    All prompts have the same length (template + video tokens), so a batch needs no padding and a
    caption does not depend on its neighbours beyond rounding. ``n_tokens`` counts EOS.
    """
    model.eval()
    layout = model.layout
    device = device or model.feature_scale.device
    captions: list[Caption] = []
    for start in range(0, len(ids), batch_size):
        chosen = list(ids[start : start + batch_size])
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            prompt = model.prompt_embeddings(features(chosen).to(device))
            new = model.llm.generate(  # type: ignore[operator]
                inputs_embeds=prompt,
                attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                repetition_penalty=repetition_penalty,
                eos_token_id=layout.eos,
                pad_token_id=layout.pad,
                # Explicit: a model's own generation config may sample or switch the cache off.
                use_cache=True,
                temperature=None,
                top_p=None,
                top_k=None,
            )
        captions += [_finish(row, layout.eos, tokenizer) for row in new.cpu().tolist()]
    return captions


def _finish(row: list[int], eos: int, tokenizer: Any) -> Caption:
    """Cut at EOS; without one the budget ended the caption."""
    ended = eos in row
    kept = row[: row.index(eos)] if ended else row
    text = tokenizer.decode(kept, skip_special_tokens=True).strip()
    return Caption(text, len(kept) + ended, not ended)
