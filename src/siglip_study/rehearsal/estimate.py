"""Arithmetic (FLOP), memory traffic and memory of a study's work, by formula.

A multiplication and an addition count as two. A matrix product of ``N`` weights with ``T`` tokens
is 2·N·T; its gradient towards the tokens is as much again, towards the weights as much a third
time, which frozen weights do not need: 4·N·T in place of 6·N·T. Norms, rotations and activations
are left out: they are bound by memory, and the assumed efficiency allows for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_study.rehearsal.shapes import LlmShape, TowerShape

if TYPE_CHECKING:
    from siglip_study.projectors.base import Projector

#: Bytes a weight in NF4 with double quantisation: 4 bits, an 8-bit scale for each 64 weights and
#: an fp32 scale for each 256 of those (Dettmers et al. 2023): 4.127 bits.
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
BF16_BYTES = 2
#: fp32 weight, gradient, two moments of AdamW and the best weights so far.
TRAINED_BYTES = 4 + 4 + 8 + 4
#: Workspaces, kernels and what the allocator cannot use.
OVERHEAD_BYTES = 1.5 * 2**30


@dataclass(frozen=True)
class Sequence:
    """One clip's sequence: prompt positions (video included) and caption tokens (EOS included)."""

    prompt: int
    caption: int

    @property
    def length(self) -> int:
        """Positions that are fed; the caption's last token predicts nothing."""
        return self.prompt + self.caption - 1


# --- language model -------------------------------------------------------------------------------


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


def llm_bytes(llm: LlmShape, quantization: str) -> float:
    """Memory of the weights."""
    each = NF4_BYTES if quantization == "nf4" else BF16_BYTES
    return llm.layer_parameters * each + llm.embedding_parameters * BF16_BYTES


def kv_bytes(llm: LlmShape, length: int) -> float:
    """The cache of one sequence in bf16."""
    return 2.0 * BF16_BYTES * llm.kv_width * llm.layers * length


def decode_bytes(llm: LlmShape, quantization: str, batch: int, length: float) -> float:
    """Memory traffic of one decoding step of a batch: weights, head, and every row's cache.

    NF4 weights are read, unpacked to bf16 and read again at every step, except for a batch of one,
    which has a kernel of its own.
    """
    if quantization == "none":
        each = float(BF16_BYTES)
    else:
        each = NF4_BYTES + (2 * BF16_BYTES if batch > 1 else 0)
    weights = llm.layer_parameters * each + llm.vocab * llm.width * BF16_BYTES
    return weights + batch * kv_bytes(llm, 1) * length


def kept_activation_bytes(llm: LlmShape, length: int, lora: bool) -> float:
    """What one sequence keeps for the backward pass if no layer is recomputed, in bf16.

    Residuals and their norms' inputs, queries, keys, values, rotated ones, attention's output, gate
    and up. Adapters also need the inputs of their linear maps.
    """
    width, queries, keys = llm.width, llm.attention_width, llm.kv_width
    a_token = 2 * width + 3 * queries + 3 * keys + 2 * llm.intermediate
    if lora:
        a_token += 2 * width + llm.intermediate
    return float(BF16_BYTES) * a_token * llm.layers * length


def recomputed_activation_bytes(llm: LlmShape, length: int, lora: bool) -> float:
    """The same if every layer is recomputed: its inputs, and one layer at a time in full."""
    one_layer = kept_activation_bytes(llm, length, lora) / llm.layers
    # The layer's gradients exist beside its activations.
    return float(BF16_BYTES) * llm.width * llm.layers * length + 2 * one_layer


def training_bytes(
    llm: LlmShape,
    quantization: str,
    sequence: Sequence,
    trained_parameters: int,
    lora: bool,
    clips: int = 1,
    recompute: bool = True,
) -> float:
    """GPU memory of a training step with ``clips`` a forward pass; one clip is the least."""
    activations = recomputed_activation_bytes if recompute else kept_activation_bytes
    # A chunk of 1024 positions of fp32 logits at a time, and as much for their softmax.
    logits = 2 * 4.0 * llm.vocab * min(1024, clips * sequence.caption)
    return (
        llm_bytes(llm, quantization)
        + TRAINED_BYTES * trained_parameters
        + clips * activations(llm, sequence.length, lora)
        + logits
        + OVERHEAD_BYTES
    )


def caption_bytes(
    llm: LlmShape, quantization: str, batch: int, prompt: int, new_tokens: int
) -> float:
    """GPU memory of captioning a batch: weights, caches, and the prompt's widest activations."""
    widest = BF16_BYTES * (4 * llm.width + 3 * llm.intermediate) * prompt * batch
    cache = batch * kv_bytes(llm, prompt + new_tokens)
    return llm_bytes(llm, quantization) + cache + widest + OVERHEAD_BYTES


# --- towers and projectors ------------------------------------------------------------------------


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


# --- disk -----------------------------------------------------------------------------------------


def feature_bytes(frames: int, patches: int, dim: int) -> int:
    """bf16 features of one clip."""
    return BF16_BYTES * frames * patches * dim


def checkpoint_bytes(projector_parameters: int, lora_parameters: int) -> int:
    """A finished stage's checkpoint: fp32 weights."""
    return 4 * (projector_parameters + lora_parameters)


def resume_bytes(projector_parameters: int, lora_parameters: int) -> int:
    """A running stage's resume point: weights, two moments and the best weights so far, fp32."""
    return 16 * (projector_parameters + lora_parameters)
