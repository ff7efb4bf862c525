"""Arithmetic (FLOP) of models, by formula: for what a study will cost, and what a run did.

A multiplication and an addition count as two. A matrix product of ``N`` weights with ``T`` tokens
is 2·N·T; its gradient towards the tokens is as much again, towards the weights as much a third
time (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1), which frozen
weights do not need: 4·N·T in place of 6·N·T. Norms, rotations and activations are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_study.models.sizes import LlmShape, TowerShape

if TYPE_CHECKING:
    from siglip_study.projectors.base import Projector


@dataclass(frozen=True)
class Sequence:
    """One clip's sequence: prompt positions (video included) and caption tokens (EOS included)."""

    prompt: int
    caption: int

    @property
    def length(self) -> int:
        """Positions that are fed; the caption's last token predicts nothing."""
        return self.prompt + self.caption - 1


def attention_flops(llm: LlmShape, length: int) -> float:
    """Causal attention of one sequence, forward: scores and mixing, half of the square each."""
    return 2.0 * length**2 * llm.attention_width * llm.layers


def forward_flops(llm: LlmShape, length: int, logits: int) -> float:
    """One sequence forward, with the output head at ``logits`` positions."""
    head = 2.0 * llm.vocab * llm.width * logits
    return 2.0 * llm.layer_parameters * length + attention_flops(llm, length) + head


def training_flops(llm: LlmShape, sequence: Sequence, lora_parameters: int = 0) -> float:
    """One clip forward and backward through frozen weights (and adapters that train).

    Attention's gradient is twice its forward pass. Recomputed layers are not counted: they are
    overhead, not useful work.
    """
    weights = 4.0 * llm.layer_parameters * sequence.length
    attention = 3.0 * attention_flops(llm, sequence.length)
    head = 4.0 * llm.vocab * llm.width * sequence.caption
    return weights + attention + head + 6.0 * lora_parameters * sequence.length


def run_flops(
    llm: LlmShape,
    samples: int,
    target_tokens: int,
    prompt: int,
    projector_flops: float,
    lora_parameters: int,
) -> float:
    """What a training stage computed: its clips, each with a caption of the mean length.

    Args:
        llm: the frozen language model.
        samples: clips seen, repetitions counted.
        target_tokens: caption tokens of all of them, EOS included.
        prompt: positions before the caption, the video's included.
        projector_flops: of one clip, forward and backward.
        lora_parameters: weights of the adapters that train; 0 in stage 1.

    Validation, quick captions, padding and recomputed layers are not counted.
    """
    if samples == 0:
        return 0.0
    sequence = Sequence(prompt, round(target_tokens / samples))
    return samples * (training_flops(llm, sequence, lora_parameters) + projector_flops)


def tower_flops(tower: TowerShape) -> float:
    """One frame, or one text, forward: weights at every token, and full attention."""
    attention = 4.0 * tower.tokens**2 * tower.width * tower.layers
    return 2.0 * tower.parameters * tower.tokens + attention


def projector_flops(projector: Projector, clips: int, patches: int, vision_dim: int) -> float:
    """A projector's forward and backward pass, counted without data.

    The projector may live on the ``meta`` device, where nothing is computed.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    parameter = next(projector.parameters())
    shape = (clips, projector.frames, patches, vision_dim)
    features = torch.empty(shape, device=parameter.device, dtype=parameter.dtype)
    with FlopCounterMode(display=False) as counter:
        projector(features).sum().backward()
    projector.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())
