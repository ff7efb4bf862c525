"""How the layers of the LLM run fast: compiled, recomputed in the backward pass and on which
attention kernel; adapters and output head with less memory. What they compute stays the same up to
rounding.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

# cuDNN's attention uses Hopper's tensor cores best; the others follow where it does not apply.
_KERNELS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
#: Attribute of a decoder layer that holds how it runs.
LAYER_STATE = "_siglip_study_layer"


@dataclass
class _Settings:
    """How one layer runs; read at each call."""

    compiled: bool = False
    recomputed: bool = False


def bare_llm(llm: Any) -> Any:
    """A causal LM without peft's wrapper, if it has one."""
    return llm.get_base_model() if hasattr(llm, "get_base_model") else llm


def decoder_layers(llm: nn.Module) -> nn.ModuleList:
    """The stack of decoder layers of a causal LM, with or without adapters."""
    layers: nn.ModuleList = bare_llm(llm).model.layers
    return layers


def set_layers(llm: nn.Module, *, compiled: bool, recomputed: int) -> None:
    """Choose how the layers run from now on.

    Args:
        llm: causal LM, with or without adapters.
        compiled: fuse what stands between the matrix products. All layers share one compilation.
        recomputed: how many layers keep only their input for the backward pass.
    """
    for number, layer in enumerate(decoder_layers(llm)):
        settings: _Settings | None = getattr(layer, LAYER_STATE, None)
        if settings is None:
            settings = _Settings()
            setattr(layer, LAYER_STATE, settings)
            layer.forward = functools.partial(_forward, layer, settings)
        settings.compiled = compiled
        # The first ones: their activations would wait longest for their gradients.
        settings.recomputed = number < recomputed


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
    _keep_compilations()
    return torch.compile(_plain, dynamic=True)


def _keep_compilations() -> None:
    """Let torch keep what it compiles in the user's cache, and not where a reboot empties it.

    Never in a study's folder: torch unpickles what it finds, and studies are passed on. Who has no
    cache that can be written keeps torch's own place.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    compiled = cache / "siglip-study" / "compiled"
    with contextlib.suppress(OSError, RuntimeError):
        compiled.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled))


# ---- LoRA in the training pass with fewer trips through GPU memory than peft's own layers make.
#
# At 20,000 tokens the adapters' arithmetic is 1 % of the base's, but seven dropout masks a layer,
# kept for the backward pass, cost more memory than the rest of the layer and a sixth of its time.
# Here a mask is a hash of position and seed: nothing is kept, what reads the same input drops the
# same elements of it, and a compilation folds the hash into the kernels around it.

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
            (name, module)
            for name, module in layer.named_modules()
            if hasattr(module, "lora_A") and not (module.lora_variant or isinstance(module, _Lean))
        ]
        for name, module in adapted:
            module.register_buffer("dropout_seed", seed, persistent=False)
            module.dropout_stream = _READS.get(name.rpartition(".")[2], _READS_OWN)
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


# ---- Cross-entropy behind a frozen output head, without the logits of all positions at once.
#
# A vocabulary of 150,000 makes 600 kB of fp32 logits a position; with their softmax and gradients,
# a few thousand caption positions would outweigh the model. As the head is frozen, the gradient of
# each position's loss is known as soon as its logits are: a chunk of positions is turned into
# losses and gradients, and its logits are gone before the next chunk (the idea of Hsu et al. 2024,
# Liger).

# Positions whose logits exist together: 0.6 GB in fp32 at a vocabulary of 152,000.
CHUNK = 1024


def head_cross_entropy(
    hidden: Tensor, head: nn.Linear, targets: Tensor, factor: float = 1.0
) -> Tensor:
    """``−log softmax(factor · head(hidden))[target]`` in nats, ``[N]`` in fp32.

    Args:
        hidden: ``[N, L]`` states that the head reads.
        head: the frozen output layer, ``L → V``; it gets no gradient.
        targets: ``[N]`` token ids.
        factor: by which the model multiplies its logits.
    """
    losses: Tensor = _HeadCrossEntropy.apply(hidden, head.weight, head.bias, targets, factor)
    return losses


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        factor: float,
    ) -> Tensor:
        wants_gradient = ctx.needs_input_grad[0]
        hidden = hidden.to(weight.dtype)
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if wants_gradient else None
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            logits = nn.functional.linear(hidden[part], weight, bias).float().mul_(factor)
            wanted = targets[part, None]
            normaliser = logits.logsumexp(1, keepdim=True)
            losses[part] = (normaliser - logits.gather(1, wanted))[:, 0]
            if gradient is not None:
                probabilities = logits.sub_(normaliser).exp_()
                probabilities.scatter_add_(
                    1, wanted, probabilities.new_full((1, 1), -1.0).expand_as(wanted)
                )
                gradient[part] = probabilities.mul_(factor).to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0][:, None].to(gradient.dtype), None, None, None, None
