"""The frozen language model: loading, adapters, and its chat template around video and caption."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from siglip_study.base.errors import StudyError, first_line
from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.models import hub
from siglip_study.models.families import llm_config
from siglip_study.models.fp8 import why_no_fp8
from siglip_study.models.hub import LAID_OUT, load_weights, settings_of
from siglip_study.models.quantization import forbid_repacking, nf4_config, random_llm, use_fp8

log = logging.getLogger(__name__)

# peft 0.21 asks transformers 5.23 for a name that it deprecates: nothing that a reader can change.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)

_KEY = "llm.model"
# Names of the language model's weights in the checkpoint of a multimodal model, in the spellings
# of several transformers releases → those of the text model alone.
_TEXT_WEIGHTS = {
    r"^language_model\.lm_head\.": "lm_head.",
    r"^model\.language_model\.": "model.",
    r"^language_model\.model\.": "model.",
}


def import_libraries(config: LlmConfig, adapters: bool) -> None:
    """Import what loading this model will need, so that it can be done in one go.

    Raises:
        StudyError: as :func:`load_llm` does where the model is not at hand or not supported.
    """
    from transformers import AutoTokenizer  # noqa: F401

    random = config.weights == "random"
    _causal_lm(settings_of(config.model, config.revision, _KEY, random), config)
    if adapters:
        import peft  # noqa: F401


def load_tokenizer(config: LlmConfig, fetch: bool = True) -> Any:
    """The LLM's tokenizer; see :func:`siglip_study.models.hub.open_tokenizer`."""
    return hub.open_tokenizer(config.model, config.revision, _KEY, fetch)


def load_llm(config: LlmConfig, device: torch.device) -> nn.Module:
    """The causal LM, frozen, in eval mode: bf16 or NF4 on a GPU; fp32 or NF4 on the CPU.

    Of a multimodal model (Gemma 3 from 4B on) the language model alone is loaded. On ``meta`` no
    weight is read, and all are accounted for.

    Raises:
        StudyError: not at hand, incomplete, quantised, or of a family that is not supported; FP8
            on a device that has none.
    """
    if config.matmul == "fp8" and (reason := why_no_fp8(device)):
        raise StudyError(reason)
    model = _load(config, device)
    if config.matmul == "fp8":
        use_fp8(model)
    return model


def _load(config: LlmConfig, device: torch.device) -> nn.Module:
    random = config.weights == "random"
    settings = settings_of(config.model, config.revision, _KEY, random)
    kind, text = _causal_lm(settings, config)
    if random:
        return random_llm(text, device, config.quantization)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    options: dict[str, Any] = {"config": text}
    if text.model_type != settings["model_type"]:
        options["key_mapping"] = _TEXT_WEIGHTS
    if device.type == "meta":
        options |= LAID_OUT
    elif config.quantization == "nf4":
        options["quantization_config"] = nf4_config(dtype)
        options["device_map"] = {"": device}
    model: nn.Module = load_weights(kind, config.model, config.revision, _KEY, dtype, **options)
    if config.quantization == "none":
        model.to(device)
    forbid_repacking(model)
    return model


def _causal_lm(settings: dict[str, Any], config: LlmConfig) -> tuple[Any, Any]:
    """Class and config of the text model."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    text = llm_config(settings, f"{_KEY} '{config.model}'")
    return MODEL_FOR_CAUSAL_LM_MAPPING[type(text)], text


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
    check_targets(config, layers)
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


def check_targets(config: LoraConfig, layers: Collection[str]) -> None:
    """Raise StudyError for a target that is none of a model's linear layers, given by name."""
    absent = [name for name in config.targets if name not in layers]
    if absent:
        raise StudyError(
            f"llm.lora.targets: {', '.join(absent)} is no linear layer of this model; "
            f"expected some of {', '.join(sorted(layers))}."
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


# ---- The chat template, split around the video and around the caption.

# Stand where video and caption go while the template is rendered; no tokenizer ever sees them.
_VIDEO = "\x00video\x00"
_CAPTION = "\x00caption\x00"
# Special tokens that enclose an image, by the models that know them: Qwen, Gemma 3.
_MARKERS = (("<|vision_start|>", "<|vision_end|>"), ("<start_of_image>", "<end_of_image>"))
# Llama's system preamble names today's date: a prompt must be the same tomorrow. This is the day
# that its templates fall back on, put in the place of the clock that they ask.
_NO_CLOCK = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


@dataclass(frozen=True)
class PromptLayout:
    """Token ids around the video span and around the caption.

    A sequence is ``before + [video embeddings] + after + caption + eos``. The blind sequence is the
    same template with the video span and its markers removed.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    blind: tuple[int, ...]
    #: with which the template ends an assistant's turn; it need not be the tokenizer's own EOS
    eos: int
    pad: int


def prompt_layout(tokenizer: Any, config: LlmConfig) -> PromptLayout:
    """Render the chat template, from which everything comes, and split it where the video goes.

    Raises:
        StudyError: the tokenizer has no chat template that shows a message once, or no token that
            ends a turn.
    """
    source = f"llm.model {config.model}"
    if tokenizer.chat_template is None:
        raise StudyError(
            f"{source}: its tokenizer has no chat template; expected an instruction-tuned model."
        )
    start, end = vision_markers(tokenizer, config)
    question = [{"role": "user", "content": f"{start}{_VIDEO}{end}{config.prompt}"}]
    parts = _render(tokenizer, question, True, source).split(_VIDEO)
    if len(parts) != 2:
        raise StudyError(
            f"{source}: its chat template shows a message {len(parts) - 1} times; expected once."
        )
    blind = _render(tokenizer, [{"role": "user", "content": config.prompt}], True, source)
    # The template spells special tokens, BOS among them, so that none is added here.
    before, after, alone = (tuple(_ids(tokenizer, text)) for text in (*parts, blind))
    pad, eos = tokenizer.pad_token_id, _end_of_turn(tokenizer, source)
    return PromptLayout(before, after, alone, eos, eos if pad is None else int(pad))


def vision_markers(tokenizer: Any, config: LlmConfig) -> tuple[str, str]:
    """The text before and after the video: the config's, else the tokenizer's own, else none."""
    if config.vision_markers is None:
        vocabulary = tokenizer.get_vocab()
        known = (pair for pair in _MARKERS if all(marker in vocabulary for marker in pair))
        return next(known, ("", ""))
    for marker in config.vision_markers:
        if (n := len(_ids(tokenizer, marker))) > 1:
            log.warning(
                "llm.vision_markers: %s is no token of %s; it is spelt with %d.",
                *(marker, config.model, n),
            )
    return config.vision_markers


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _render(tokenizer: Any, messages: Sequence[dict[str, str]], prompts: bool, source: str) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=_NO_CLOCK + tokenizer.get_chat_template(),
                tokenize=False,
                add_generation_prompt=prompts,
                enable_thinking=False,
            )
        )
    except Exception as error:  # a template is a program
        raise StudyError(
            f"{source}: its chat template fails ({type(error).__name__}: {first_line(error)}); "
            "expected one that renders a user's question and an answer."
        ) from None


def _end_of_turn(tokenizer: Any, source: str) -> int:
    """The special token that follows an assistant's words; failing that, the tokenizer's EOS."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _CAPTION}]
    parts = _render(tokenizer, turns, False, source).split(_CAPTION)
    if len(parts) == 2:
        tail = _ids(tokenizer, parts[1].lstrip())
        special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        if tail and tail[0] in special and tail[0] != tokenizer.bos_token_id:
            return int(tail[0])
    if tokenizer.eos_token_id is None:
        raise StudyError(
            f"{source}: its chat template ends a turn with no token of its own, and its tokenizer "
            "has no end-of-text token; expected one of them."
        )
    return int(tokenizer.eos_token_id)
