"""AdamW with a learning rate for the projector and one for the adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from siglip_study.config.training import StageConfig


def is_lora(name: str) -> bool:
    """Whether a parameter of the whole model belongs to an adapter."""
    return "lora_" in name


def parameter_groups(
    trainable: dict[str, nn.Parameter], no_decay: set[str], stage: StageConfig
) -> list[dict[str, Any]]:
    """Groups by peak rate and weight decay.

    Args:
        trainable: name → parameter of the whole model.
        no_decay: names that never decay (biases, norms, queries).
        stage: rates and decay.

    Returns:
        Groups with ``peak`` (the learning rate at factor 1) and ``part`` ("projector" or "lora").
    """
    rates = {
        "projector": stage.learning_rate,
        "lora": stage.lora_learning_rate or stage.learning_rate,
    }
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        part = "lora" if is_lora(name) else "projector"
        # DoRA's magnitudes are vectors too: scales of rows, as in a norm.
        decays = name not in no_decay and parameter.dim() > 1
        groups.setdefault((part, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "part": part,
            "peak": rates[part],
            "lr": rates[part],
            "weight_decay": stage.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]


def make_optimizer(groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), betas .9 and .999; fused where the parameters allow."""
    return torch.optim.AdamW(groups, fused=device.type == "cuda")


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group's rate to ``peak × factor``; returns the rate of each part."""
    rates = {"projector": 0.0, "lora": 0.0}
    for group in optimizer.param_groups:
        group["lr"] = rates[group["part"]] = group["peak"] * factor
    return rates
