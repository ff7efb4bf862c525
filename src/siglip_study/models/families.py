"""Which families of models a study can use, by the ``model_type`` of a config; why others cannot.

Each family is held against its own hidden states or logits in ``tests/models``, and the tables of
``docs/models.md`` are made from these (``python -m tools.model_docs``). What is in neither table
was never tried, and is refused as well: a family that differs in silence would spoil a study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from siglip_study.base.errors import StudyError


def complete_config(raw: Mapping[str, Any], source: str) -> Any:
    """transformers' config of a model: its ``config.json`` with what that leaves to the defaults.

    Raises:
        StudyError: a type that transformers does not know, or settings that are not of that type.
    """
    from transformers import CONFIG_MAPPING

    kind = str(raw.get("model_type", ""))
    if kind not in CONFIG_MAPPING:
        raise StudyError(f"{source} is of type '{kind}'; expected one that transformers knows.")
    check_sizes(raw, source)
    try:
        return CONFIG_MAPPING[kind].from_dict(dict(raw))
    except Exception as error:  # whatever its code makes of settings that are none
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise StudyError(
            f"{source}: its config.json is not one of type '{kind}' ({told}); "
            "expected a model that transformers can build."
        ) from None


#: Sizes from 1 up to which a model can be one: others would never be built, or fill the memory.
_LARGEST = {
    "num_hidden_layers": 1000,
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "patch_size"), 10_000),
    **dict.fromkeys(("hidden_size", "head_dim", "image_size", "num_channels"), 100_000),
    **dict.fromkeys(("intermediate_size", "vocab_size", "num_labels"), 10_000_000),
    "max_position_embeddings": 100_000_000,
}


def check_sizes(raw: Mapping[str, Any], source: str) -> None:
    """Look at a config's sizes before transformers makes lists of so many entries.

    Raises:
        StudyError: a size is beyond those of any model.
    """
    halves = {name: raw[name] for name in ("text_config", "vision_config") if raw.get(name)}
    for name, half in halves.items():
        if not isinstance(half, Mapping):
            found = type(half).__name__
            raise StudyError(f"{source}: its config's {name} is a {found}; expected a mapping.")
    for part in (raw, *halves.values()):
        for name, most in _LARGEST.items():
            size = part.get(name)
            if name in ("image_size", "patch_size") and isinstance(size, list):
                raise StudyError(f"{source}: its config has {name} {size}; expected one number.")
            if isinstance(size, int) and not 1 <= size <= most:
                raise StudyError(f"{source}: its config has {name} {size}; expected 1 to {most}.")


# ---- Vision towers that give a grid of patch tokens.


@dataclass(frozen=True)
class VisionFamily:
    """A kind of tower: its class in transformers, and what stands around its patches."""

    model: str
    #: config → tokens that precede the patches: CLS, distillation, registers
    prefix_tokens: Callable[[Any], int] = lambda config: 1
    #: whether its positions fit pictures of any size, not that of the config alone
    any_size: bool = False
    #: what its class is built with
    options: Mapping[str, Any] = field(default_factory=dict)


# A pooler is not read, and most checkpoints have none.
_NO_POOLER = {"add_pooling_layer": False}
_CLIP = VisionFamily("CLIPVisionModel")
# Covers SigLIP 2 at a fixed resolution, whose checkpoints call themselves "siglip" as well.
_SIGLIP = VisionFamily("SiglipVisionModel", lambda config: 0)
#: model type of a config → its family
VISION_FAMILIES: dict[str, VisionFamily] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": VisionFamily("Dinov2Model", any_size=True),
    "dinov2_with_registers": VisionFamily(
        "Dinov2WithRegistersModel", lambda config: 1 + int(config.num_register_tokens), True
    ),
    "dinov3_vit": VisionFamily(
        "DINOv3ViTModel", lambda config: 1 + int(config.num_register_tokens), True
    ),
    "vit": VisionFamily("ViTModel", options=_NO_POOLER),
    "vit_msn": VisionFamily("ViTMSNModel"),
    "deit": VisionFamily("DeiTModel", lambda config: 2, options=_NO_POOLER),
    "beit": VisionFamily("BeitModel", options=_NO_POOLER),
    "data2vec-vision": VisionFamily("Data2VecVisionModel", options=_NO_POOLER),
    "ijepa": VisionFamily("IJepaModel", lambda config: 0, options=_NO_POOLER),
    "aimv2_vision_model": VisionFamily("Aimv2VisionModel", lambda config: 0),
    "mlcd_vision_model": VisionFamily("MLCDVisionModel"),
}

_NAFLEX = "a NaFlex model, whose number of patches follows each picture"
_PYRAMID = "a pyramid: its maps shrink from stage to stage, and no layer holds a grid of patches"
_VIDEO = "a model of whole videos, which mixes the frames"
#: model type → what such a model is, for those that people try
REFUSED_VISION: dict[str, str] = {
    **dict.fromkeys(("siglip2", "siglip2_vision_model"), _NAFLEX),
    "pixtral": "a model whose number of patches follows each picture",
    "vit_mae": "an autoencoder that hides most patches and shuffles the rest",
    **dict.fromkeys(
        (
            *("convnext", "convnextv2", "dinov3_convnext", "resnet", "regnet", "bit"),
            *("efficientnet", "swin", "swinv2", "pvt", "pvt_v2", "hiera", "cvt", "segformer"),
            *("focalnet", "poolformer", "levit", "mobilevit", "mobilevitv2"),
        ),
        _PYRAMID,
    ),
    **dict.fromkeys(("vivit", "videomae", "timesformer", "vjepa2", "xclip"), _VIDEO),
    **dict.fromkeys(
        ("sam_vision_model", "vitdet"),
        "a tower of segmenters and detectors, whose layers look into windows",
    ),
    "timm_wrapper": "a tower of timm, which is not among the libraries of a study",
}


def vision_family(raw: Mapping[str, Any], source: str) -> VisionFamily:
    """The family of a tower.

    Raises:
        StudyError: a tower that is refused, or was never tried.
    """
    kind = str(raw.get("model_type", ""))
    if kind in VISION_FAMILIES:
        return VISION_FAMILIES[kind]
    if kind.startswith("siglip2"):
        raise StudyError(
            f"{source} is {_NAFLEX}; expected a SigLIP 2 of fixed resolution, such as "
            "google/siglip2-so400m-patch14-384."
        )
    why = f", {REFUSED_VISION[kind]}" if kind in REFUSED_VISION else ""
    known = ", ".join(VISION_FAMILIES)
    raise StudyError(f"{source} is of type '{kind}'{why}; expected a vision tower of type {known}.")


def tower_config(raw: Mapping[str, Any], source: str) -> Any:
    """The complete config of the vision half of a tower's, or a scorer's, ``config.json``.

    Raises:
        StudyError: as :func:`complete_config`.
    """
    config = complete_config(raw, source)
    return getattr(config, "vision_config", config)


def patch_grid(config: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches of a picture of ``size`` (height, width).

    What is left over at the right and lower border is dropped, as the towers' own convolution does:
    384 pixels in patches of 14 are 27 × 27.
    """
    patch = int(config.patch_size)
    return size[0] // patch, size[1] // patch


# ---- Language models: dense decoders of Llama's kind, whose loss can be taken from the head.


@dataclass(frozen=True)
class LlmFamily:
    """A kind of language model: how it differs from Llama where a study looks into it."""

    #: linear layers that hold several of Llama's in one: name → theirs
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: config → what its logits are multiplied by after the head
    logit_factor: Callable[[Any], float] = lambda config: 1.0


_GATE_UP = {"gate_up_proj": ("gate_proj", "up_proj")}
_COHERE = LlmFamily(logit_factor=lambda config: config.logit_scale)
#: model type of the text model → its family
LLM_FAMILIES: dict[str, LlmFamily] = {
    **dict.fromkeys(
        (
            *("llama", "mistral", "ministral", "ministral3", "qwen2", "qwen3", "gemma"),
            *("gemma3_text", "exaone4", "smollm3", "olmo", "olmo2", "olmo3", "stablelm"),
            *("helium", "ernie4_5", "hunyuan_v1_dense", "internlm3", "seed_oss"),
        ),
        LlmFamily(),
    ),
    "phi3": LlmFamily(fused={"qkv_proj": ("q_proj", "k_proj", "v_proj"), **_GATE_UP}),
    "glm": LlmFamily(fused=_GATE_UP),
    "glm4": LlmFamily(fused=_GATE_UP),
    "cohere": _COHERE,
    "cohere2": _COHERE,
    "granite": LlmFamily(logit_factor=lambda config: 1.0 / config.logits_scaling),
    # It multiplies by what Granite, under the same name, divides by.
    "hyperclovax": LlmFamily(logit_factor=lambda config: config.logits_scaling),
}
#: Types of models with more than text in them, of which the text model alone is loaded.
MULTIMODAL = ("gemma3",)

_OTHER_LAYERS = "its layers are not named and built as Llama's are"
_EXPERTS = "its layers are mixtures of experts"
_STATES = "its layers hold states of their own in place of keys and values"
_LATENT = "its attention holds latent vectors in place of keys and values"
_CAPPED = "it caps its attention's scores and its logits"
_EMBEDDINGS = "its layers may read embeddings of the tokens, which a video has not"
#: model type → why, for those that people try
REFUSED_LLMS: dict[str, str] = {
    **dict.fromkeys(("gemma2", "vaultgemma"), _CAPPED),
    **dict.fromkeys(
        (
            *("gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "codegen", "falcon", "bloom"),
            *("mpt", "opt", "phi", "persimmon", "xglm", "biogpt", "starcoder2", "nemotron"),
            *("arcee", "apertus", "jais2", "nanochat"),
        ),
        _OTHER_LAYERS,
    ),
    **dict.fromkeys(
        (
            *("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "olmoe", "phimoe", "granitemoe"),
            *("ernie4_5_moe", "glm4_moe", "exaone_moe", "hunyuan_v1_moe", "solar_open", "dbrx"),
            *("llama4", "llama4_text", "afmoe", "dots1", "minimax"),
        ),
        _EXPERTS,
    ),
    **dict.fromkeys(
        (
            *("mamba", "mamba2", "falcon_mamba", "falcon_h1", "jamba", "bamba", "zamba", "zamba2"),
            *("recurrent_gemma", "rwkv", "xlstm", "nemotron_h", "granitemoehybrid", "lfm2"),
            *("qwen3_next", "qwen3_5", "qwen3_5_text", "olmo_hybrid", "kimi_linear"),
        ),
        _STATES,
    ),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "minicpm3", "youtu"), _LATENT),
    **dict.fromkeys(
        ("gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gemma4_unified"), _EMBEDDINGS
    ),
}


def llm_config(raw: Mapping[str, Any], source: str) -> Any:
    """The complete config of the text model of an LLM's ``config.json``.

    Raises:
        StudyError: a family that is refused or was never tried, or a setting of it that would make
            the loss wrong.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    kind = str(raw.get("model_type", ""))
    if kind not in LLM_FAMILIES and kind not in MULTIMODAL:
        known = ", ".join(sorted((*LLM_FAMILIES, *MULTIMODAL)))
        if kind in REFUSED_LLMS:
            why = f", which is not supported: {REFUSED_LLMS[kind]}"
        elif kind in CONFIG_MAPPING and CONFIG_MAPPING[kind] in MODEL_FOR_CAUSAL_LM_MAPPING:
            why = ", which was never tried here"
        else:
            raise StudyError(
                f"{source} is of type '{kind}'; expected a causal language model of type {known}."
            )
        raise StudyError(f"{source} is of type '{kind}'{why}; expected one of {known}.")
    config = complete_config(raw, source).get_text_config()
    # The loss applies the head to caption positions itself: what a model does to its logits
    # beyond a factor would be missing from it. And what sees the whole sequence writes no caption.
    odd = ("final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention")
    for key in odd:
        if value := getattr(config, key, None):
            raise StudyError(
                f"{source}: its config has {key} {value}; expected a causal model whose logits are "
                "those of its head."
            )
    try:
        factor = logit_factor(config)
    except (TypeError, ZeroDivisionError):
        factor = 0.0
    if not factor > 0:
        raise StudyError(f"{source}: its config scales logits by {factor}; expected one above 0.")
    return config


def logit_factor(config: Any) -> float:
    """What a language model of this text config multiplies the logits of its head by."""
    family = LLM_FAMILIES.get(config.model_type, LlmFamily())
    return float(family.logit_factor(config))
