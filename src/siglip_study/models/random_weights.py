"""A language model of random weights from its config alone, to try speed and memory.

It is what ``load_llm`` gives, but for the values: same classes, dtypes, quantised layers and flags.
Nothing is downloaded, and the unquantised model never exists as a whole, so that an 8-billion model
is made in seconds on the GPU that it is meant for. Imports torch, transformers and bitsandbytes
alone.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from siglip_study.models.quantization import forbid_repacking, nf4_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def random_llm(
    config: PretrainedConfig,
    device: torch.device,
    quantization: Literal["nf4", "none"],
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """A causal LM built from its config, frozen, in eval mode on ``device``.

    The model is laid out without memory and filled layer by layer, each as its family initialises
    it: matrices normal with the config's ``initializer_range``, norms neutral, rotary tables
    computed, a tied head tied. Under "nf4" every linear layer but the head is quantised where it is
    made. Of a multimodal config the text model is built.

    Args:
        config: of the model; it is not changed.
        device: where the weights are made; values depend on it, as torch's generators do.
        quantization: "nf4" (double quantisation, as ``load_llm``) or "none".
        seed: of the weights; torch's own generators are left as they were.
        dtype: of weights and activations; None: bf16 on a GPU, fp32 on the CPU.
    """
    from transformers import AutoModelForCausalLM

    device = torch.device(device)
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    text = copy.deepcopy(config.get_text_config())
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(text, dtype=dtype, trust_remote_code=False)
    quantizer = _lay_out_nf4(model, dtype, device) if quantization == "nf4" else None
    with ExitStack() as stack:
        gpus = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=gpus))
        stack.enter_context(torch.no_grad())
        torch.manual_seed(seed)
        made: dict[int, nn.Parameter] = {}
        for module in model.modules():
            _fill(model, module, device, dtype, made)
    model.tie_weights()
    if quantizer is not None:
        quantizer.postprocess_model(model)
    forbid_repacking(model)
    return model.eval().requires_grad_(False)


def _lay_out_nf4(model: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Put 4-bit layers in the place of linear ones, as ``from_pretrained`` does before it reads."""
    from transformers.quantizers import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(nf4_config(dtype), pre_quantized=False)
    model.hf_quantizer = quantizer
    quantizer.preprocess_model(model, dtype=dtype, device_map={"": device})
    return quantizer


def _fill(
    model: Any,
    module: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
    made: dict[int, nn.Parameter],
) -> None:
    """Give one module's own parameters and buffers memory and values; ``made`` keeps ties."""
    old = {name: p for name, p in module.named_parameters(recurse=False)}
    if old and all(id(p) in made for p in old.values()):
        for name, p in old.items():
            module._parameters[name] = made[id(p)]
        return
    if type(module).__name__ == "Linear4bit":
        _fill_nf4(model, module, device, dtype)
        return
    for name, p in old.items():
        fresh = nn.Parameter(torch.empty_like(p, device=device), requires_grad=False)
        module._parameters[name] = made[id(p)] = fresh
    for name, buffer in module._buffers.items():
        if buffer is not None and buffer.is_meta:
            module._buffers[name] = torch.empty_like(buffer, device=device)
    # Each family's own rule: Gemma's norms are neutral at zero, and its embedding has a scale.
    model._init_weights(module)


def _fill_nf4(model: Any, layer: Any, device: torch.device, dtype: torch.dtype) -> None:
    from bitsandbytes.nn import Params4bit

    bias = layer.bias is not None
    plain = nn.Linear(layer.in_features, layer.out_features, bias, device="meta", dtype=dtype)
    model._init_weights(plain.to_empty(device=device))
    settings = {**layer.weight.__dict__, "module": layer}
    # The move to a device is what quantises, also from that device to itself.
    layer.weight = Params4bit(plain.weight.data, requires_grad=False, **settings).to(device)
    if bias:
        layer.bias = nn.Parameter(plain.bias.data, requires_grad=False)
