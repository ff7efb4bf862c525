"""Sizes of tiny models of random weights, as keywords of transformers' config classes."""

from __future__ import annotations

from typing import Any

#: A language model of a few thousand weights; two heads share their keys and values.
_LLM = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
#: Of 4 × 4 patches a frame.
VISION_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
#: Of a scorer's texts.
TEXT_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CLIP_IMAGES = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.48, 0.45, 0.4],
    "image_std": [0.26, 0.26, 0.27],
}
DINO_IMAGES = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
SIGLIP_IMAGES = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def llm_sizes(**changes: Any) -> dict[str, Any]:
    """Keywords that Qwen3, Llama, Mistral and Gemma share."""
    return _LLM | changes


def wide_llm_sizes(**changes: Any) -> dict[str, Any]:
    """The same with rows of 64 weights, the block that NF4 quantises."""
    wide = {"vocab_size": 90, "hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
    return llm_sizes(**wide | {"max_position_embeddings": 128} | changes)


def gemma_sizes(sizes: dict[str, Any], window: int) -> dict[str, Any]:
    """What Gemma wants beside: a sliding window, and its scale of the queries."""
    return sizes | {"sliding_window": window, "query_pre_attn_scalar": sizes["head_dim"]}


_MUP = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3}
_MIXED = {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
# What makes a tiny model of a family differ from Llama where its real ones do.
_OWN_SIZES: dict[str, dict[str, Any]] = {
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25, **_MIXED},
    "exaone4": _MIXED,
    "gemma3_text": {"query_pre_attn_scalar": 16, **_MIXED},
    "granite": {"logits_scaling": 8.0, **_MUP},
    "hyperclovax": {"logits_scaling": 0.25, **_MUP},
    "ministral": _MIXED,
    "mistral": {"sliding_window": 7},
    "olmo3": _MIXED,
    "phi3": {"sliding_window": 7},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 7},
    "smollm3": {"no_rope_layers": [1, 0]},
    "stablelm": {"use_parallel_residual": True, "qk_layernorm": True, "use_qkv_bias": True},
}


def llm_of(kind: str, **changes: Any) -> dict[str, Any]:
    """The ``config.json`` of a tiny language model of this type; prompts of 8 pass its window."""
    own = {"model_type": kind, "initializer_range": 0.3, "tie_word_embeddings": False}
    return wide_llm_sizes(**own | _OWN_SIZES.get(kind, {}) | changes)


def stir_adapters(llm: Any, std: float = 0.1) -> None:
    """Give fresh LoRA adapters, which are the identity, weights that change something."""
    import torch

    torch.manual_seed(4)
    for name, parameter in llm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=std)


def byte_level_tokenizer(specials: list[str]) -> Any:
    """A ``tokenizers.Tokenizer``: special tokens first, then one token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={n: i for i, n in enumerate(names)}, merges=[]))
    tokenizer.add_special_tokens(specials)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
