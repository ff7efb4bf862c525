"""Memory traffic, memory and disk of a study's work, by formula; its arithmetic is in ``flops``.

What the arithmetic leaves out (norms, rotations, activations) is bound by memory: the assumed
efficiency of a GPU allows for it.
"""

from __future__ import annotations

from siglip_study.flops import Sequence
from siglip_study.model_sizes import LlmShape

#: Bytes a weight in NF4 with double quantisation: 4 bits, an 8-bit scale for each 64 weights and
#: an fp32 scale for each 256 of those (Dettmers et al. 2023): 4.127 bits.
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
BF16_BYTES = 2
#: fp32 weight, gradient, two moments of AdamW and the best weights so far.
TRAINED_BYTES = 4 + 4 + 8 + 4
#: Workspaces, kernels and what the allocator cannot use.
OVERHEAD_BYTES = 1.5 * 2**30


# --- language model -------------------------------------------------------------------------------


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
