"""The frozen language model: loading, quantisation and adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from siglip_study.base.errors import StudyError
from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.models.hub import load_part, load_weights, settings_of
from siglip_study.models.prompt import PromptLayout, prompt_layout
from siglip_study.models.quantization import forbid_repacking, nf4_config

__all__ = [
    "PromptLayout",
    "add_lora",
    "embedding_rms",
    "import_libraries",
    "load_llm",
    "load_tokenizer",
    "prompt_layout",
]

_KEY = "llm.model"
# Names of the language model's weights in the checkpoint of a multimodal model, in the spellings
# of several transformers releases → those of the text model alone.
_TEXT_WEIGHTS = {
    r"^language_model\.lm_head\.": "lm_head.",
    r"^model\.language_model\.": "model.",
    r"^language_model\.model\.": "model.",
}


def import_libraries(config: LlmConfig, adapters: bool) -> None:
    """Import what loading this model will need, so that it can be done in one go (``loading``).

    Raises:
        StudyError: as :func:`load_llm` does where the model is not at hand or no causal LM.
    """
    from transformers import AutoTokenizer  # noqa: F401

    random = config.weights == "random"
    _causal_lm(settings_of(config.model, config.revision, _KEY, random), config)
    if adapters:
        import peft  # noqa: F401


def load_tokenizer(config: LlmConfig) -> Any:
    """The LLM's tokenizer, from a local folder or the hub's cache."""
    from transformers import AutoTokenizer

    return load_part(AutoTokenizer, config.model, config.revision, _KEY)


def load_llm(config: LlmConfig, device: torch.device) -> nn.Module:
    """The causal LM, frozen, in eval mode: bf16 or NF4 on a GPU; fp32 or NF4 on the CPU.

    Of a multimodal model (Gemma 3 from 4B on) the language model alone is loaded. Nothing is
    trained here: callers add a projector and adapters.

    Raises:
        StudyError: not at hand, incomplete, no causal LM, or one that alters its logits.
    """
    random = config.weights == "random"
    settings = settings_of(config.model, config.revision, _KEY, random)
    kind, text, multimodal = _causal_lm(settings, config)
    _require_plain_logits(text, config)
    model: nn.Module
    if random:
        from siglip_study.models.quantization import random_llm

        model = random_llm(text, device, config.quantization)
    else:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        options: dict[str, Any] = {"config": text}
        if multimodal:
            options["key_mapping"] = _TEXT_WEIGHTS
        if config.quantization == "nf4":
            options["quantization_config"] = nf4_config(dtype)
            options["device_map"] = {"": device}
        model = load_weights(kind, config.model, config.revision, _KEY, dtype, **options)
        if config.quantization == "none":
            model.to(device)
    forbid_repacking(model)
    return model.eval().requires_grad_(False)


def _causal_lm(settings: dict[str, Any], config: LlmConfig) -> tuple[Any, Any, bool]:
    """Class and config of the text model, and whether the checkpoint holds more than it."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    name = settings.get("model_type", "")
    whole = text = None
    if name in CONFIG_MAPPING:
        whole = CONFIG_MAPPING[name].from_dict(settings)
        text = whole.get_text_config()
    if text is None or type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise StudyError(
            f"{_KEY} '{config.model}' is of type '{name}'; expected a causal language model that "
            "transformers knows."
        )
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(text)], text, text is not whole


def _require_plain_logits(settings: Any, config: LlmConfig) -> None:
    # The loss applies the head to caption positions itself, so what a model does to its logits
    # after the head (Gemma 2 caps, Granite and Cohere scale) would be missing from it.
    for key in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        value = getattr(settings, key, None)
        if value not in (None, 1):
            raise StudyError(
                f"{_KEY} {config.model}: its config has {key} {value}; "
                "expected a model whose logits are those of its head."
            )


def embedding_rms(model: nn.Module) -> float:
    """Root mean square of the token embeddings: the scale a projector's output must have."""
    embedding: nn.Embedding = model.get_input_embeddings()  # type: ignore[operator]
    # Through the layer, not its weight: Gemma's embedding layer multiplies by a scale of its own.
    ids = torch.arange(min(embedding.num_embeddings, 4096), device=embedding.weight.device)
    return float(embedding(ids).detach().float().pow(2).mean().sqrt())


def add_lora(model: nn.Module, config: LoraConfig) -> nn.Module:
    """Wrap the LLM with fresh adapters (their initialisation draws from torch's global seed).

    Raises:
        StudyError: a target name is not a linear layer of this model.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    head = model.get_output_embeddings()  # type: ignore[operator]
    layers = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if module is not head
        and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
    }
    absent = [name for name in config.targets if name not in layers]
    if absent:
        raise StudyError(
            f"llm.lora.targets: {', '.join(absent)} is no linear layer of this model; "
            f"expected some of {', '.join(sorted(layers))}."
        )
    return get_peft_model(
        model,
        PeftLoraConfig(
            r=config.r,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=list(config.targets),
            use_dora=config.dora,
            task_type="CAUSAL_LM",
        ),
    )


def merge_adapters(llm: nn.Module, config: LlmConfig) -> nn.Module:
    """Fold adapters into fp32 weights, exact up to rounding; other weights keep them apart.

    A bf16 weight has 8 significant bits: an update under 1/512 of it would vanish in the sum. A
    model without adapters, or whose adapters are merged already, is returned as it is.
    """
    if not hasattr(llm, "merge_and_unload"):
        return llm
    dtype = llm.get_input_embeddings().weight.dtype  # type: ignore[operator]
    if config.quantization != "none" or dtype != torch.float32:
        return llm
    with torch.no_grad():
        merged: nn.Module = llm.merge_and_unload()  # type: ignore[operator]
    return merged
