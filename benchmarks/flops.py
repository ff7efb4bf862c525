"""Useful floating-point operations of a training step: what no method can leave out.

Frozen weights need a forward product and the gradient of their input: 4 FLOPs a weight and token.
Trained ones need the gradient of the weight as well: 6. Causal attention needs half of a full
score matrix: 2·S²·heads·head_dim forward, twice that backward. Logits are needed at caption
positions only, padding nowhere, and recomputing counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.inputs import Size


def decoder_weights(size: Size) -> int:
    """Weights of the linear layers of all decoder layers."""
    queries = size.hidden * size.heads * size.head_dim
    keys = size.hidden * size.kv_heads * size.head_dim
    return size.layers * (2 * queries + 2 * keys + 3 * size.hidden * size.ffn)


def lora_weights(size: Size) -> int:
    """Weights of the adapters on all seven projections."""
    q, kv = size.heads * size.head_dim, size.kv_heads * size.head_dim
    ends = [(size.hidden, q), (size.hidden, kv), (size.hidden, kv), (q, size.hidden)]
    ends += [(size.hidden, size.ffn)] * 2 + [(size.ffn, size.hidden)]
    return size.layers * size.lora.r * sum(a + b for a, b in ends)


def step_flops(
    size: Size, stage: int, prompt: int, projector: int, captions: Sequence[int]
) -> float:
    """FLOPs of one optimizer step.

    Args:
        size: shapes.
        stage: 1, projector alone; 2, with adapters.
        prompt: positions before the caption.
        projector: FLOPs of the projector, forward and backward, of one clip.
        captions: lengths in tokens, EOS included.
    """
    frozen = decoder_weights(size)
    trained = lora_weights(size) if stage == 2 else 0
    total = 0.0
    for length in captions:
        fed = prompt + length - 1  # the last token predicts nothing
        total += fed * (4 * frozen + 6 * trained)
        total += 3 * 2 * fed**2 * size.heads * size.head_dim * size.layers
        total += 4 * length * size.hidden * size.vocab
        total += projector
    return total
