"""Cross-entropy behind a frozen output head, without the logits of all positions at once.

A vocabulary of 150,000 makes 600 kB of fp32 logits a position; with their softmax and gradients, a
few thousand caption positions would outweigh the model. As the head is frozen, the gradient of each
position's loss is known as soon as its logits are: a chunk of positions is turned into losses and
gradients, and its logits are gone before the next chunk (the idea of Hsu et al. 2024, Liger).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Positions whose logits exist together: 0.6 GB in fp32 at a vocabulary of 152,000.
CHUNK = 1024


def head_cross_entropy(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """``−log softmax(head(hidden))[target]`` in nats, ``[N]`` in fp32.

    Args:
        hidden: ``[N, L]`` states that the head reads.
        head: the frozen output layer, ``L → V``; it gets no gradient.
        targets: ``[N]`` token ids.
    """
    losses: Tensor = _HeadCrossEntropy.apply(hidden, head.weight, head.bias, targets)
    return losses


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> Tensor:
        wants_gradient = ctx.needs_input_grad[0]
        hidden = hidden.to(weight.dtype)
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if wants_gradient else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = nn.functional.linear(hidden[part], weight, bias).float()
            wanted = targets[part, None]
            normaliser = logits.logsumexp(1, keepdim=True)
            losses[part] = (normaliser - logits.gather(1, wanted))[:, 0]
            if gradient is not None:
                probabilities = logits.sub_(normaliser).exp_()
                probabilities.scatter_add_(
                    1, wanted, probabilities.new_full((1, 1), -1.0).expand_as(wanted)
                )
                gradient[part] = probabilities.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0][:, None].to(gradient.dtype), None, None, None
