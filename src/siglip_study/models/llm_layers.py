"""How the decoder layers of the LLM run: compiled, recomputed in the backward pass, and on which
attention kernel. What they compute stays the same up to rounding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

# cuDNN's attention uses Hopper's tensor cores best; the others follow where it does not apply.
_KERNELS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
_STATE = "_siglip_study_layer"


@dataclass
class _Settings:
    """How one layer runs; read at each call."""

    compiled: bool = False
    recomputed: bool = False


def decoder_layers(llm: nn.Module) -> nn.ModuleList:
    """The stack of decoder layers of a causal LM, with or without adapters."""
    base = getattr(llm, "get_base_model", None)
    causal_lm: Any = base() if base is not None else llm
    layers: nn.ModuleList = causal_lm.model.layers
    return layers


def set_layers(llm: nn.Module, *, compiled: bool, recomputed: int) -> None:
    """Choose how the layers run from now on.

    Args:
        llm: causal LM, with or without adapters.
        compiled: fuse what stands between the matrix products. All layers share one compilation.
        recomputed: how many layers keep only their input for the backward pass.
    """
    for number, layer in enumerate(decoder_layers(llm)):
        settings = _settings(layer)
        settings.compiled = compiled
        # The first ones: their activations would wait longest for their gradients.
        settings.recomputed = number < recomputed


def layer_settings(llm: nn.Module) -> tuple[bool, int]:
    """Whether the layers are compiled, and how many are recomputed."""
    found = [getattr(layer, _STATE, _Settings()) for layer in decoder_layers(llm)]
    return any(s.compiled for s in found), sum(s.recomputed for s in found)


def _settings(layer: nn.Module) -> _Settings:
    settings: _Settings | None = getattr(layer, _STATE, None)
    if settings is None:
        settings = _Settings()
        setattr(layer, _STATE, settings)
        layer.forward = functools.partial(_forward, layer, settings)
    return settings


def _forward(layer: nn.Module, settings: _Settings, *args: Any, **kwargs: Any) -> Any:
    if kwargs.get("past_key_values") is not None:
        # With a cache each layer writes to a place of its own, which no shared compilation knows.
        return _plain(layer, *args, **kwargs)
    run = _compiled() if settings.compiled else _plain
    if settings.recomputed and torch.is_grad_enabled():
        # Around the compilation, not inside it: there, what custom operators return would be kept.
        return checkpoint(_on_fastest_kernel, run, layer, *args, use_reentrant=False, **kwargs)
    return _on_fastest_kernel(run, layer, *args, **kwargs)


def _on_fastest_kernel(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with sdpa_kernel(_KERNELS, set_priority=True):
        return run(*args, **kwargs)


def _plain(layer: Any, *args: Any, **kwargs: Any) -> Any:
    return type(layer).forward(layer, *args, **kwargs)


@functools.cache
def _compiled() -> Callable[..., Any]:
    # One graph each for: with and without gradients or adapters, packed weights, a single clip.
    # Past the limit, 8 by default, torch would run the layers as they are without a word.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return torch.compile(_plain, dynamic=True)
