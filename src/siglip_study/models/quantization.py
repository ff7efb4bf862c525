"""NF4 weights of the language model: one setting for all of them, and how they are unpacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def nf4_config(dtype: torch.dtype) -> Any:
    """transformers' settings of NF4 with double quantisation (Dettmers et al. 2023).

    Args:
        dtype: of activations, and of weights that stay unquantised.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def forbid_repacking(model: nn.Module) -> None:
    """Keep 4-bit layers as they are on every CPU.

    On some CPUs bitsandbytes repacks a layer at its first forward pass in eval mode, for a kernel
    without gradients: training after the first validation would be silently wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def dequantized_growth(llm: nn.Module) -> int:
    """Bytes by which the model grows when its NF4 weights become 16 bits wide."""
    packed: list[Any] = [llm.get_submodule(name).weight for name in names_of(llm, is_nf4)]
    return sum(2 * weight.quant_state.shape.numel() - weight.numel() for weight in packed)


def dequantize(llm: nn.Module) -> None:
    """Put plain linear layers in the place of NF4 ones: the same values, unpacked once."""
    for name in names_of(llm, is_nf4):
        layer: Any = llm.get_submodule(name)
        replace(llm, name, plain_linear(unpacked_weight(layer), layer.bias))


def names_of(llm: nn.Module, wanted: Callable[[Any], bool]) -> list[str]:
    """Names, not modules: what is replaced is freed before the next one is made."""
    return [name for name, module in llm.named_modules() if wanted(module)]


def replace(llm: nn.Module, name: str, new: nn.Module) -> None:
    """Put a frozen module in the place of the one of that name."""
    llm.set_submodule(name, new.eval().requires_grad_(False))


def is_nf4(layer: Any) -> bool:
    """Whether a module is a linear layer with packed weights."""
    # Not by the attribute alone: a layer of peft passes on the weight of its base.
    return isinstance(layer, nn.Linear) and hasattr(layer.weight, "quant_state")


def unpacked_weight(layer: Any) -> Tensor:
    """``[out, in]``, unpacked where it is NF4."""
    if not is_nf4(layer):
        weight: Tensor = layer.weight.detach()
        return weight
    from bitsandbytes.functional import dequantize_4bit

    unpacked: Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return unpacked.to(precision(layer))


def precision(layer: Any) -> torch.dtype:
    """In which a linear layer computes."""
    dtype: torch.dtype = layer.compute_dtype if is_nf4(layer) else layer.weight.dtype
    return dtype


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen linear layer of a weight ``[out, in]`` that is there already."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made
