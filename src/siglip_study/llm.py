"""The frozen language model: loading, quantisation, adapters and the layout of the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from siglip_study.config import LlmConfig, LoraConfig
from siglip_study.errors import StudyError

# Stands where the video goes while the chat template is rendered; no tokenizer ever sees it.
_VIDEO = "\x00video\x00"


@dataclass(frozen=True)
class PromptLayout:
    """Token ids around the video span and around the caption.

    A sequence is ``before + [video embeddings] + after + caption + eos``. The blind sequence is the
    same template with the video span and its markers removed.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    blind: tuple[int, ...]
    eos: int
    pad: int


def prompt_layout(tokenizer: Any, config: LlmConfig) -> PromptLayout:
    """Render the chat template once and split it where the video goes.

    Raises:
        StudyError: the tokenizer has no chat template or no end-of-text token.
    """
    if tokenizer.chat_template is None:
        raise StudyError(
            f"llm.model {config.model}: its tokenizer has no chat template; "
            "expected an instruction-tuned model."
        )
    if tokenizer.eos_token_id is None:
        raise StudyError(f"llm.model {config.model}: its tokenizer has no end-of-text token.")

    def render(content: str) -> str:
        return str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        )

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    start, end = config.vision_markers
    parts = render(f"{start}{_VIDEO}{end}{config.prompt}").split(_VIDEO)
    if len(parts) != 2:
        raise StudyError(
            f"llm.model {config.model}: its chat template shows a message {len(parts) - 1} times; "
            "expected once."
        )
    before, after = parts
    pad = tokenizer.pad_token_id
    eos = int(tokenizer.eos_token_id)
    return PromptLayout(
        before=ids(before),
        after=ids(after),
        blind=ids(render(config.prompt)),
        eos=eos,
        pad=eos if pad is None else int(pad),
    )


def require_model(model: str, key: str) -> None:
    """A local folder that is absent is reported as such, not as a malformed hub id."""
    looks_local = model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_local and not Path(model).is_dir():
        raise StudyError(
            f"{key}: no folder {model}; expected a model saved by save_pretrained or a hub id."
        )


def _from_hub(loader: Any, config: LlmConfig, **options: Any) -> Any:
    try:
        return loader.from_pretrained(config.model, revision=config.revision, **options)
    except OSError as error:
        fetch = f"hf download {config.model}" + (
            f" --revision {config.revision}" if config.revision else ""
        )
        raise StudyError(
            f"llm.model: {config.model} is not on this machine ({str(error).splitlines()[0]}); "
            f"fetch it with: {fetch}"
        ) from None


def load_tokenizer(config: LlmConfig) -> Any:
    """The LLM's tokenizer, from a local folder or the hub's cache."""
    from transformers import AutoTokenizer

    require_model(config.model, "llm.model")
    return _from_hub(AutoTokenizer, config)


def load_llm(config: LlmConfig, device: torch.device) -> nn.Module:
    """The causal LM, frozen, in eval mode: bf16 or NF4 on a GPU; fp32 or NF4 on the CPU.

    NF4 uses double quantisation (Dettmers et al. 2023). Nothing is trained here: callers add a
    projector and adapters.
    """
    from transformers import AutoModelForCausalLM

    require_model(config.model, "llm.model")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if config.quantization == "nf4":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        options["device_map"] = {"": device}
    model: nn.Module = _from_hub(AutoModelForCausalLM, config, **options)
    if config.quantization == "none":
        model.to(device)
    _require_plain_logits(model, config)
    for module in model.modules():
        # On some CPUs bitsandbytes repacks a layer at its first forward pass in eval mode, for a
        # kernel without gradients: training after the first validation would be silently wrong.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return model.eval().requires_grad_(False)


def _require_plain_logits(model: Any, config: LlmConfig) -> None:
    # The loss applies the head to caption positions itself, so what a model does to its logits
    # after the head (Gemma 2 caps, Granite and Cohere scale) would be missing from it.
    settings = model.config.get_text_config()
    for key in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        value = getattr(settings, key, None)
        if value not in (None, 1):
            raise StudyError(
                f"llm.model {config.model}: its config has {key} {value}; "
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
