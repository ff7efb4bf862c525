"""How the decoder layers of the LLM run: compiled, recomputed in the backward pass, and on which
attention kernel. What they compute stays the same up to rounding."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
class LayerState:
    """Whether one layer is compiled and recomputed; read at each call."""

    plain: Callable[..., Any]
    compiled: Callable[..., Any] | None = None
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
    layers = decoder_layers(llm)
    for number, layer in enumerate(layers):
        state = _state(layer)
        # Recomputed layers come first: their activations would wait longest for their gradients.
        state.recomputed = number < recomputed
        if not compiled:
            state.compiled = None
        elif state.compiled is None:
            state.compiled = torch.compile(state.plain, dynamic=True)


def layer_settings(llm: nn.Module) -> tuple[bool, int]:
    """Whether the layers are compiled, and how many are recomputed."""
    states = [getattr(layer, _STATE, None) for layer in decoder_layers(llm)]
    known = [state for state in states if state is not None]
    return any(s.compiled is not None for s in known), sum(s.recomputed for s in known)


@contextmanager
def fastest_attention() -> Iterator[None]:
    """Prefer the fastest attention kernel that applies."""
    with sdpa_kernel(_KERNELS, set_priority=True):
        yield


def _state(layer: nn.Module) -> LayerState:
    state: LayerState | None = getattr(layer, _STATE, None)
    if state is None:
        state = LayerState(layer.forward)
        setattr(layer, _STATE, state)
        layer.forward = functools.partial(_forward, state)
    return state


def _forward(state: LayerState, *args: Any, **kwargs: Any) -> Any:
    # With a cache each layer writes to a place of its own, which one compilation cannot know.
    cached = kwargs.get("past_key_values") is not None
    run = state.plain if cached or state.compiled is None else state.compiled
    if state.recomputed and not cached and torch.is_grad_enabled():
        return checkpoint(_with_fastest_attention, run, *args, use_reentrant=False, **kwargs)
    return run(*args, **kwargs) if cached else _with_fastest_attention(run, *args, **kwargs)


def _with_fastest_attention(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with fastest_attention():
        return run(*args, **kwargs)
