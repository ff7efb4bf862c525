"""LoRA in the training pass with fewer trips through GPU memory than peft's own layers make.

At 20,000 tokens the adapters' arithmetic is 1 % of the base's, but seven dropout masks a layer,
kept for the backward pass, cost more memory than the rest of the layer and a sixth of its time.
Here a mask is a hash of position and seed: nothing is kept, what reads the same input drops the
same elements of it, and a compilation folds the hash into the kernels around it.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from siglip_study.models.llm_layers import decoder_layers

_SEED = "dropout_seed"
# Projections that read the same input drop the same elements.
_READS = {"q_proj": 1, "k_proj": 1, "v_proj": 1, "o_proj": 2, "gate_proj": 3, "up_proj": 3}
_READS_OWN = 4
# Of murmur3's finaliser (Appleby 2011), as signed 32-bit integers.
_MIX_1, _MIX_2, _GOLDEN = -2048144789, -1028477387, -1640531527
_BITS = 24


def use_lean_adapters(llm: nn.Module) -> None:
    """Let the LoRA layers of ``llm`` run as described above; DoRA layers stay peft's.

    Weights, their names and what is saved do not change. Call it once the model is on its device.
    """
    for layer in decoder_layers(llm):
        device = next(layer.parameters()).device
        seed = torch.zeros((), dtype=torch.int32, device=device)
        adapted = [
            (name.rsplit(".", 1)[-1], module)
            for name, module in layer.named_modules()
            if hasattr(module, "lora_A")
            and not module.lora_variant
            and not isinstance(module, _Lean)
        ]
        for name, module in adapted:
            module.register_buffer(_SEED, seed, persistent=False)
            module.dropout_stream = _READS.get(name, _READS_OWN)
            # Another class, not another function on each instance: a compilation is shared by all
            # layers as long as they are of the same types.
            module.__class__ = _lean(type(module))  # type: ignore[arg-type]
        if adapted:
            layer.register_forward_pre_hook(functools.partial(_reseed, seed))


def _reseed(seed: Tensor, layer: nn.Module, inputs: Any) -> None:
    if layer.training and torch.is_grad_enabled():
        seed.random_()


class _Lean:
    """Forward pass of a peft LoRA layer, ahead of that layer's class among its bases."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """``W x + (α / r) · B A dropout(x)`` (Hu et al. 2022, section 4.1)."""
        plain: Tensor = self.base_layer(x)
        if self.disable_adapters or self.merged:
            return plain
        [adapter] = self.active_adapters
        scaling = self.scaling[adapter]
        rate = getattr(self.lora_dropout[adapter], "p", 0.0)
        if self.training and rate > 0:
            x = torch.where(keep(x, self.dropout_seed + self.dropout_stream, rate), x, 0.0)
            scaling = scaling / (1.0 - rate)
        down = self.lora_A[adapter].weight.to(plain.dtype)
        up = self.lora_B[adapter].weight.to(plain.dtype)
        low = nn.functional.linear(x.to(plain.dtype), down)
        return plain + nn.functional.linear(low * scaling, up)


@functools.cache
def _lean(cls: type) -> type:
    return type(f"Lean{cls.__name__}", (_Lean, cls), {})


def keep(x: Tensor, seed: Tensor, rate: float) -> Tensor:
    """Which elements of ``x`` stay: each with probability ``1 − rate``, decided by a hash.

    Args:
        x: any shape, fewer than 2³¹ elements.
        seed: scalar int32. All masks are read from one fixed sequence of 2³² decisions: the seed
            says in which order, by an XOR with an element's number.
        rate: probability of dropping an element, in steps of 2⁻²⁴.
    """
    h = torch.arange(x.numel(), dtype=torch.int32, device=x.device).view(x.shape)
    h = (h ^ (seed * _MIX_1)) * _GOLDEN
    # An arithmetic shift of a negative number brings ones in from the left: cut them off.
    h = (h ^ ((h >> 16) & 0xFFFF)) * _MIX_1
    h = (h ^ ((h >> 13) & 0x7FFFF)) * _MIX_2
    h = h ^ ((h >> 16) & 0xFFFF)
    return (h & ((1 << _BITS) - 1)) >= round(rate * (1 << _BITS))
