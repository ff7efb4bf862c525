"""The LLM's weights while it captions: what training needs and decoding pays for, laid aside.

An NF4 weight is dequantised for every token unless that was done once; peft's adapted layer costs
a dozen Python calls a token, and a DoRA layer the norm of its whole weight.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from siglip_study.config.training import LlmConfig
from siglip_study.models.devices import free_bytes
from siglip_study.models.llm import merge_adapters
from siglip_study.models.quantization import (
    dequantize,
    dequantized_growth,
    is_nf4,
    names_of,
    plain_linear,
    precision,
    replace,
    unpacked_weight,
)


def weights_for_captions(
    llm: nn.Module,
    config: LlmConfig,
    memory_gb: float | None = None,
) -> nn.Module:
    """Make a trained LLM quick at captioning; it cannot be trained on.

    fp32 weights take up their adapters, which is exact up to rounding. On a GPU the NF4 base
    becomes bf16 where that leaves half of the free memory to captions, and takes them up likewise;
    where it stays packed, bf16 adapters stand beside it. On the CPU an NF4 model stays as it is.

    The causal LM, with or without adapters, is changed in place. ``memory_gb``: GPU memory (GiB)
    the job may fill; null: what is free.
    """
    llm = merge_adapters(llm, config)
    weight: Tensor = llm.get_input_embeddings().weight  # type: ignore[operator]
    if weight.device.type != "cuda":
        return llm
    if dequantized_growth(llm) <= free_bytes(weight.device, memory_gb) // 2:
        dequantize(llm)
    return settle_adapters(llm, "merged")


def settle_adapters(llm: nn.Module, how: Literal["apart", "merged"]) -> nn.Module:
    """Replace peft's layers by :class:`AdaptedLinear`, or by their sum where the base is not NF4.

    "merged" rounds that sum to bf16, which lies no farther from fp32 than "apart" does (measured in
    benchmarks/RESULTS.md by `benchmarks.exactness`). A layer that is no plain linear one keeps
    peft's. The causal LM loses peft's wrapper.
    """

    def is_adapted(layer: Any) -> bool:
        return hasattr(layer, "lora_A") and isinstance(layer.base_layer, nn.Linear)

    for name in names_of(llm, is_adapted):
        layer: Any = llm.get_submodule(name)
        merge = how == "merged" and not is_nf4(layer.base_layer)
        make = _merged if merge else AdaptedLinear
        replace(llm, name, make(layer.base_layer, *_adapter(layer)))
    unwrap = getattr(llm, "get_base_model", None)
    return llm if unwrap is None else unwrap()


class AdaptedLinear(nn.Module):
    """A linear layer and its LoRA or DoRA adapter in the layer's own precision.

    ``g ⊙ (W x + U D x) + b``: the change of the weight is ``U D``, and ``g`` is absent for LoRA
    (Hu et al. 2022) and ``m / ‖W + U D‖`` by rows for DoRA (Liu et al. 2024, equation 5).
    """

    down: Tensor
    up: Tensor
    gain: Tensor | None

    def __init__(self, base: nn.Linear, down: Tensor, up: Tensor, gain: Tensor | None) -> None:
        super().__init__()
        self.base = base
        dtype = precision(base)
        self.register_buffer("down", down.to(dtype))
        self.register_buffer("up", up.to(dtype))
        self.register_buffer("gain", None if gain is None else gain.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """``[…, in]`` → ``[…, out]``."""
        change = functional.linear(functional.linear(x, self.down), self.up)
        plain: Tensor = self.base(x)
        if self.gain is None:
            return plain + change
        if self.base.bias is None:
            return (plain + change) * self.gain
        return (plain - self.base.bias + change) * self.gain + self.base.bias


def _adapter(layer: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """D ``[r, in]``, U ``[out, r]`` with the scaling in it, and g ``[out]``, of peft's layer."""
    [name] = layer.active_adapters
    down = layer.lora_A[name].weight.detach().float()
    up = layer.lora_B[name].weight.detach().float() * layer.scaling[name]
    if name not in layer.lora_magnitude_vector:
        return down, up, None
    magnitude = layer.lora_magnitude_vector[name].weight.detach().float()
    whole = unpacked_weight(layer.base_layer).float() + up @ down
    return down, up, magnitude / whole.norm(dim=1)


def _merged(base: nn.Linear, down: Tensor, up: Tensor, gain: Tensor | None) -> nn.Linear:
    """The sum in fp32, rounded once to the layer's precision."""
    whole = base.weight.detach().float() + up @ down
    if gain is not None:
        whole *= gain[:, None]
    return plain_linear(whole.to(base.weight.dtype), base.bias)
