"""The sizes of a model, from its ``config.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siglip_study.base.errors import StudyError
from siglip_study.models.families import LLM_FAMILIES

if TYPE_CHECKING:
    from siglip_study.projectors.base import Projector


@dataclass(frozen=True)
class LlmShape:
    """A causal LM of Llama's kind, with gated MLPs: layers, widths, heads, vocabulary."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    #: linear layers that hold several of Llama's in one: (name, theirs)
    fused: tuple[tuple[str, tuple[str, ...]], ...] = ()

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
        attention = {"q_proj": (width, queries), "k_proj": (width, keys), "v_proj": (width, keys)}
        gated = dict.fromkeys(("gate_proj", "up_proj"), (width, self.intermediate))
        down = {"down_proj": (self.intermediate, width)}
        maps = {**attention, "o_proj": (queries, width), **gated, **down}
        for name, parts in self.fused:
            maps[name] = (width, sum(maps.pop(part)[1] for part in parts))
        return maps

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
    family = LLM_FAMILIES.get(raw.get("model_type", ""))
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
        fused=tuple(family.fused.items()) if family else (),
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


# ---- FLOP: what a study will cost, and what a run did.
#
# A multiplication and an addition count as two. A matrix product of ``N`` weights with ``T`` tokens
# is 2·N·T; its gradient towards the tokens is as much again, towards the weights as much a third
# time (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1), which frozen
# weights do not need: 4·N·T in place of 6·N·T. Norms, rotations and activations are left out.
#
# Projectors, which are code of any kind, are counted by PyTorch as they run. For the LLM and the
# towers formulas stay: they need the config alone, and PyTorch counts the whole square of causal
# attention, of which kernels compute half: 14 % too much of a training step at 5,000 positions. A
# test compares both.


@dataclass(frozen=True)
class SequenceShape:
    """One clip's sequence: prompt positions (video included) and caption tokens (EOS included)."""

    prompt: int
    caption: int

    @property
    def length(self) -> int:
        """Positions that are fed; the caption's last token predicts nothing."""
        return self.prompt + self.caption - 1


def attention_flops(llm: LlmShape, length: int) -> float:
    """Causal attention of one sequence, forward: scores and mixing, half of the square each."""
    return 2.0 * length**2 * llm.attention_width * llm.layers


def forward_flops(llm: LlmShape, length: int, logits: int) -> float:
    """One sequence forward, with the output head at ``logits`` positions."""
    head = 2.0 * llm.vocab * llm.width * logits
    return 2.0 * llm.layer_parameters * length + attention_flops(llm, length) + head


def training_flops(llm: LlmShape, sequence: SequenceShape, lora_parameters: int = 0) -> float:
    """One clip forward and backward through frozen weights (and adapters that train).

    Attention's gradient is twice its forward pass. Recomputed layers are not counted: they are
    overhead, not useful work.
    """
    weights = 4.0 * llm.layer_parameters * sequence.length
    attention = 3.0 * attention_flops(llm, sequence.length)
    head = 4.0 * llm.vocab * llm.width * sequence.caption
    return weights + attention + head + 6.0 * lora_parameters * sequence.length


def run_flops(
    llm: LlmShape,
    samples: int,
    target_tokens: int,
    prompt: int,
    projector_flops: float,
    lora_parameters: int,
) -> float:
    """What a training stage computed: its clips, each with a caption of the mean length.

    Validation, quick captions, padding and recomputed layers are not counted.

    Args:
        llm: the frozen language model.
        samples: clips seen, repetitions counted.
        target_tokens: caption tokens of all of them, EOS included.
        prompt: positions before the caption, the video's included.
        projector_flops: of one clip, forward and backward.
        lora_parameters: weights of the adapters that train; 0 in stage 1.
    """
    if samples == 0:
        return 0.0
    sequence = SequenceShape(prompt, round(target_tokens / samples))
    return samples * (training_flops(llm, sequence, lora_parameters) + projector_flops)


def tower_flops(tower: TowerShape) -> float:
    """One frame, or one text, forward: weights at every token, and full attention."""
    attention = 4.0 * tower.tokens**2 * tower.width * tower.layers
    return 2.0 * tower.parameters * tower.tokens + attention


def projector_flops(projector: Projector) -> float:
    """A projector's forward and backward pass over one clip, counted without data.

    The projector may live on the ``meta`` device, where nothing is computed.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    parameter, shape = next(projector.parameters()), projector.shape
    features = torch.empty(
        (1, shape.frames, shape.patches, shape.dim), device=parameter.device, dtype=parameter.dtype
    )
    with FlopCounterMode(display=False) as counter:
        projector(features).sum().backward()
    projector.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())
