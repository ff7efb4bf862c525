"""Memory traffic, memory and disk of a study's work, by formula; its arithmetic is in ``flops``.

What the arithmetic leaves out (norms, rotations, activations) is bound by memory: the assumed
efficiency of a GPU allows for it.
"""

from __future__ import annotations

from siglip_study.models.sizes import LlmShape, Sequence
from siglip_study.training.memory import ClipCost, bytes_needed, kept_layers, least_pass

#: Bytes a weight in NF4 with double quantisation: 4 bits, an 8-bit scale for each 64 weights and
#: an fp32 scale for each 256 of those (Dettmers et al. 2023): 4.127 bits.
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
BF16_BYTES = 2
#: What of a GPU's memory never holds a tensor: kernels and libraries' workspaces.
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


def training_pass(llm: LlmShape, sequence: Sequence, lora: bool, features: float) -> ClipCost:
    """What the memory plan of a training would find by trying one clip of this length."""
    # A chunk of 1024 positions of fp32 logits at a time, and as much for their softmax.
    logits = 2 * 4.0 * llm.vocab * min(1024, sequence.caption)
    layer = kept_activation_bytes(llm, sequence.length, lora) / llm.layers
    layer_input = float(BF16_BYTES) * llm.width * sequence.length
    # One layer is recomputed at a time; its gradients exist beside its activations.
    recomputed = llm.layers * layer_input + 2 * layer + logits
    return ClipCost(
        recomputed=recomputed,
        first_kept=recomputed - layer,
        kept_layer=layer - layer_input,
        validated=2 * layer + logits,
        features=features,
        tokens=sequence.length,
    )


def held_bytes(llm: LlmShape, quantization: str, trained_parameters: int) -> float:
    """Memory that is taken before a pass: the LLM, and the trained weights in fp32."""
    return llm_bytes(llm, quantization) + 4.0 * trained_parameters


def least_training_bytes(
    llm: LlmShape,
    quantization: str,
    sequence: Sequence,
    trained_parameters: int,
    lora: bool,
    features: float,
    checkpointing: str = "auto",
) -> float:
    """Memory for tensors with which the plan of a training still finds a way: one clip a pass.

    Args:
        llm: sizes of the language model.
        quantization: of its weights.
        sequence: the longest one.
        trained_parameters: of projector and adapters.
        lora: whether adapters are trained.
        features: bytes of one clip's features.
        checkpointing: layers that may keep their activations, as configured.
    """
    a_pass = least_pass(
        training_pass(llm, sequence, lora, features), kept_layers(checkpointing, llm.layers)
    )
    held = held_bytes(llm, quantization, trained_parameters)
    return held + bytes_needed(a_pass, trained_parameters)


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
