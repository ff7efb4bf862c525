"""What rounding the adapted weights to bf16 costs: next-token distributions against fp32."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from siglip_study.captioning.weights import settle_adapters
from siglip_study.models.quantization import dequantize
from siglip_study.models.vlm import VisionLanguageModel


@dataclass(frozen=True)
class Difference:
    """How far next-token distributions lie from those of the fp32 model.

    ``kl``: mean KL(fp32 ‖ this) in nats a token. ``loss``: difference of the mean loss a token
    (nats). ``largest``: largest change of a target's log-probability (nats). ``agreement``: share
    of tokens with the same most likely successor.
    """

    kl: float
    loss: float
    largest: float
    agreement: float


@torch.no_grad()
def adapter_rounding(
    model: VisionLanguageModel, features: Tensor, captions: Sequence[Sequence[int]]
) -> dict[str, Difference]:
    """Compare adapters kept apart, merged and left out with the same model in fp32.

    All start from the same (unpacked) base weights, so the loss from NF4 itself is no part of it.
    Merging is harmless where ``merged`` lies no farther from fp32 than ``apart`` does; ``absent``
    says how much the adapters matter at all. Needs the memory of three copies of the LLM, one of
    them in fp32: 65 GB at 8B parameters.

    Args:
        model: with peft adapters on its LLM, which is unpacked in place.
        features: ``[B, F, P, V]``.
        captions: B captions as token ids, on which next tokens are predicted.
    """
    original = model.llm.eval()
    dequantize(original)
    prompt = model.prompt_embeddings(features.to(model.feature_scale.device)).float()
    found: dict[str, Difference] = {}
    try:
        reference = _log_probabilities(model, copy.deepcopy(original).float(), prompt, captions)
        for name in ("apart", "merged", "absent"):
            llm = copy.deepcopy(original)
            if name == "absent":
                llm = llm.unload()  # type: ignore[operator]
            else:
                llm = settle_adapters(llm, "apart" if name == "apart" else "merged")
            found[name] = compare(
                reference, _log_probabilities(model, llm, prompt, captions), captions
            )
            del llm
    finally:
        model.llm = original
    return found


def _log_probabilities(
    model: VisionLanguageModel,
    llm: nn.Module,
    prompt: Tensor,
    captions: Sequence[Sequence[int]],
) -> list[Tensor]:
    """Per caption ``[n, vocabulary]`` in fp32, in the LLM's own precision throughout."""
    model.llm = llm
    dtype = model.embedding.weight.dtype
    rows = []
    for start, caption in zip(prompt, captions, strict=True):
        fed = model.embed([list(caption[:-1])])
        inputs = torch.cat([start[None].to(dtype), fed.to(dtype)], dim=1)
        hidden = model.backbone(inputs_embeds=inputs, use_cache=False).last_hidden_state
        logits = model.head(hidden[0, len(start) - 1 :].contiguous())
        rows.append(logits.float().log_softmax(dim=-1).cpu())
    return rows


def compare(
    reference: list[Tensor], other: list[Tensor], captions: Sequence[Sequence[int]]
) -> Difference:
    exact, rounded = torch.cat(reference), torch.cat(other)
    targets = torch.tensor([token for caption in captions for token in caption])[:, None]
    change = (rounded.gather(1, targets) - exact.gather(1, targets)).double()
    kl = (exact.exp() * (exact - rounded)).sum(dim=1)
    same = exact.argmax(dim=1) == rounded.argmax(dim=1)
    return Difference(
        kl=float(kl.double().mean()),
        loss=-float(change.mean()),
        largest=float(change.abs().max()),
        agreement=float(same.double().mean()),
    )
