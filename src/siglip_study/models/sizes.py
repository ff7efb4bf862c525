"""The sizes of a model, from its ``config.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from siglip_study.base.errors import StudyError


@dataclass(frozen=True)
class LlmShape:
    """A causal LM with gated MLPs (Qwen, Llama, Gemma): layers, widths, heads, vocabulary."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool

    @property
    def attention_width(self) -> int:
        """Heads × their dimension: the width of the queries."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.head_dim

    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear maps of a layer: name → (inputs, outputs)."""
        width, queries, keys = self.width, self.attention_width, self.kv_width
        return {
            "q_proj": (width, queries),
            "k_proj": (width, keys),
            "v_proj": (width, keys),
            "o_proj": (queries, width),
            "gate_proj": (width, self.intermediate),
            "up_proj": (width, self.intermediate),
            "down_proj": (self.intermediate, width),
        }

    @property
    def layer_parameters(self) -> int:
        """Weights of all layers' linear maps: what NF4 quantises."""
        return self.layers * sum(a * b for a, b in self.linears().values())

    @property
    def embedding_parameters(self) -> int:
        """Token embeddings and, where it is not tied to them, the output head."""
        return self.vocab * self.width * (1 if self.tied else 2)

    def lora_parameters(self, r: int, targets: tuple[str, ...]) -> int:
        """Weights of adapters of rank ``r`` on these linear maps of every layer."""
        maps = [shape for name, shape in self.linears().items() if name in targets]
        return self.layers * sum(r * (a + b) for a, b in maps)


@dataclass(frozen=True)
class TowerShape:
    """A transformer without cache: layers, widths, tokens of one input, patch inputs."""

    layers: int
    width: int
    intermediate: int
    tokens: int
    patch_inputs: int = 0
    vocab: int = 0

    @property
    def parameters(self) -> int:
        """Weights of the layers and of the patch embedding."""
        per_layer = 4 * self.width**2 + 2 * self.width * self.intermediate
        return self.layers * per_layer + self.patch_inputs * self.width

    @property
    def stored(self) -> int:
        """All weights, those of token embeddings included."""
        return self.parameters + self.vocab * self.width


def llm_shape(raw: Mapping[str, Any], source: str) -> LlmShape:
    """Sizes of a causal LM; a multimodal config's ``text_config`` counts.

    Raises:
        StudyError: a size is missing from the config.
    """
    raw = {**raw, **raw.get("text_config", {})}
    heads = _size(raw, "num_attention_heads", source)
    width = _size(raw, "hidden_size", source)
    return LlmShape(
        layers=_size(raw, "num_hidden_layers", source),
        width=width,
        heads=heads,
        kv_heads=int(raw.get("num_key_value_heads") or heads),
        head_dim=int(raw.get("head_dim") or width // heads),
        intermediate=_size(raw, "intermediate_size", source),
        vocab=_size(raw, "vocab_size", source),
        tied=bool(raw.get("tie_word_embeddings", raw.get("model_type", "").startswith("gemma"))),
    )


def vision_shape(raw: Mapping[str, Any], size: tuple[int, int], layer: int) -> TowerShape:
    """Sizes of a vision tower cut after hidden layer ``layer`` and fed frames of ``size``."""
    raw = raw.get("vision_config", raw)
    layers, patch = int(raw.get("num_hidden_layers", 12)), int(raw.get("patch_size", 32))
    width = int(raw.get("hidden_size", 768))
    used = layer if layer >= 0 else layers + 1 + layer
    prefix = 0 if str(raw.get("model_type", "")).startswith("siglip") else 1
    return TowerShape(
        layers=used,
        width=width,
        intermediate=int(raw.get("intermediate_size") or width * raw.get("mlp_ratio", 4)),
        tokens=(size[0] // patch) * (size[1] // patch) + prefix,
        patch_inputs=3 * patch * patch,
    )


def text_shape(raw: Mapping[str, Any]) -> TowerShape:
    """Sizes of a scorer's text tower, fed texts of full length."""
    text = raw.get("text_config", {})
    width = int(text.get("hidden_size", 768))
    return TowerShape(
        layers=int(text.get("num_hidden_layers", 12)),
        width=width,
        intermediate=int(text.get("intermediate_size", 4 * width)),
        tokens=int(text.get("max_position_embeddings", 64)),
        vocab=int(text.get("vocab_size", 32000)),
    )


def _size(raw: Mapping[str, Any], key: str, source: str) -> int:
    if not isinstance(raw.get(key), int):
        raise StudyError(f"{source}: its config has no number {key}; expected a causal LM's.")
    return int(raw[key])
