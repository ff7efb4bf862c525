"""NF4 weights of the language model: one setting for weights that are read and weights made up."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


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
