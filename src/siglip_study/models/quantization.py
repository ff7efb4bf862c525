"""Packed weights of the language model: NF4 and FP8, how they are unpacked, and a model of random
weights that is quantised as it is made."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from siglip_study.models.fast_layers import decoder_layers
from siglip_study.models.fp8 import Fp8Linear

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def nf4_config(dtype: torch.dtype) -> Any:
    """transformers' settings of NF4 with double quantisation (Dettmers et al. 2023).

    ``dtype`` is that of activations, and of weights that stay unquantised.
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
    """Put plain linear layers in the place of packed ones: the same values, unpacked once."""
    for name in names_of(llm, lambda layer: is_nf4(layer) or isinstance(layer, Fp8Linear)):
        layer: Any = llm.get_submodule(name)
        replace(llm, name, plain_linear(unpacked_weight(layer), layer.bias))


def use_fp8(llm: nn.Module) -> None:
    """Let the linear layers of all decoder layers multiply in FP8, NF4 ones among them.

    Call it before adapters are added. The head stays as it is.
    """
    for layer in decoder_layers(llm):
        for name in names_of(layer, lambda module: isinstance(module, nn.Linear)):
            linear: Any = layer.get_submodule(name)
            replace(layer, name, Fp8Linear(unpacked_weight(linear), linear.bias))


def names_of(llm: nn.Module, wanted: Callable[[Any], bool]) -> list[str]:
    """Names, not modules: what is replaced is freed before the next one is made."""
    return [name for name, module in llm.named_modules() if wanted(module)]


def replace(llm: nn.Module, name: str, new: nn.Module) -> None:
    """Put a frozen module in the place of the one of that name."""
    llm.set_submodule(name, new.eval().requires_grad_(False))


def is_nf4(layer: Any) -> bool:
    """Whether a module is a linear layer with packed weights."""
    # Not by the attribute alone: a layer of peft passes on the weight of its base.
    weight = layer._parameters.get("weight") if isinstance(layer, nn.Linear) else None
    return hasattr(weight, "quant_state")


def unpacked_weight(layer: Any) -> Tensor:
    """``[out, in]``, unpacked where it is NF4."""
    weight: Tensor = layer.weight.detach()
    if is_nf4(layer):
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(precision(layer))
    return weight


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


# ---- A language model of random weights from its config alone, to try speed and memory.
#
# It is what ``load_llm`` gives, but for the values. The unquantised model never exists as a whole,
# so that an 8-billion model is made in seconds on the GPU that it is meant for.


def random_llm(
    config: PretrainedConfig,
    device: torch.device,
    quantization: Literal["nf4", "none"],
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """A causal LM built from its config, frozen, in eval mode on ``device``.

    The model is laid out without memory and filled layer by layer, each as its family initialises
    it. Under "nf4" every linear layer but the head is quantised where it is made. Of a multimodal
    config the text model is built.

    Args:
        config: of the model; it is not changed.
        device: where the weights are made; values depend on it, as torch's generators do.
        quantization: "nf4" (double quantisation, as ``load_llm``) or "none".
        seed: of the weights; torch's own generators are left as they were.
        dtype: of weights and activations; None: bf16 on a GPU, fp32 on the CPU.
    """
    from transformers import AutoModelForCausalLM
    from transformers.quantizers import AutoHfQuantizer

    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    text = copy.deepcopy(config.get_text_config())
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(text, dtype=dtype, trust_remote_code=False)
    quantizer: Any = None
    if quantization == "nf4":
        # 4-bit layers in the place of linear ones, as ``from_pretrained`` does before it reads.
        quantizer = AutoHfQuantizer.from_config(nf4_config(dtype), pre_quantized=False)
        model.hf_quantizer = quantizer
        quantizer.preprocess_model(model, dtype=dtype, device_map={"": device})
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), torch.no_grad():
        torch.manual_seed(seed)
        made: dict[int, nn.Parameter] = {}
        for module in model.modules():
            _fill(model, module, device, dtype, made)
    model.tie_weights()
    if quantizer is not None:
        quantizer.postprocess_model(model)
    forbid_repacking(model)
    return model.eval().requires_grad_(False)


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
