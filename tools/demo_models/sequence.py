"""The study's token sequence around a video span, for training and measuring the micro LM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from tools.demo_models.tokenizer import END, START, VISION_END, VISION_START

PROMPT = "이 영상을 자세히 설명해주세요."
MAX_NEW_TOKENS = 56
IGNORED = -100


def head_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Tokens before the video span."""
    return tokenizer.encode(f"{START}user\n{VISION_START}", add_special_tokens=False)


def tail_ids(tokenizer: PreTrainedTokenizerFast, prompt: str = PROMPT) -> list[int]:
    """Tokens between the video span and the caption."""
    text = f"{VISION_END}{prompt}{END}\n{START}assistant\n"
    return tokenizer.encode(text, add_special_tokens=False)


def blind_ids(tokenizer: PreTrainedTokenizerFast, prompt: str = PROMPT) -> list[int]:
    """All tokens before the caption where there is no video: no span, no markers."""
    return tokenizer.encode(f"{START}user\n{prompt}{END}\n{START}assistant\n")


def target_ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each caption or answer, with the end token that is a target too."""
    end = tokenizer.eos_token_id
    return [[*ids, end] for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def target_losses(
    model: Qwen3ForCausalLM,
    head: Sequence[int],
    slots: torch.Tensor | None,
    prompts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of the targets after head, slots [B, S, L] (or none) and each row's prompt.

    Rows are padded on the right, which a causal model does not see, so no mask is needed.

    Returns:
        Summed nats of each row [B] and its number of target tokens [B].
    """
    device = model.device
    longest = max(len(p) + len(t) for p, t in zip(prompts, targets, strict=True))
    rows = np.zeros((2, len(targets), longest), np.int64)
    rows[1] = IGNORED
    for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        end = len(prompt) + len(target)
        rows[0, row, :end] = [*prompt, *target]
        rows[1, row, len(prompt) : end] = target
    ids, wanted = torch.from_numpy(rows).to(device, non_blocking=True)
    embed = model.get_input_embeddings()
    parts = [embed(ids)]
    if slots is not None:
        first = embed(torch.tensor(head, device=device)).expand(len(ids), -1, -1)
        parts = [first, slots.to(first.dtype), *parts]
    shortest = min(len(p) for p in prompts)
    keep = longest - shortest + 1
    logits = model(inputs_embeds=torch.cat(parts, 1), logits_to_keep=keep, use_cache=False).logits[
        :, :-1
    ]
    wanted = wanted[:, shortest:]
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(wanted).sum(1), (wanted != IGNORED).sum(1)


@torch.no_grad()
def greedy(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    slots: torch.Tensor,
    prompt: str = PROMPT,
) -> list[str]:
    """Greedy captions for slots [B, S, L]."""
    embed = model.get_input_embeddings()

    def rows(ids: list[int]) -> torch.Tensor:
        return embed(torch.tensor(ids, device=model.device)).expand(len(slots), -1, -1)

    inputs = torch.cat(
        [rows(head_ids(tokenizer)), slots.to(model.dtype), rows(tail_ids(tokenizer, prompt))], 1
    )
    out = model.generate(
        inputs_embeds=inputs,
        attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long, device=model.device),
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
    )
    return tokenizer.batch_decode(out, skip_special_tokens=True)
