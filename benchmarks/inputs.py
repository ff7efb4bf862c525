"""What both sides are timed on: random weights, random features, captions of known lengths.

Nothing here needs a hub, a tokenizer or a data set: token ids are drawn, and the prompt's layout
has the lengths of the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from siglip_study import projectors
from siglip_study.config.training import LoraConfig
from siglip_study.models.llm import PromptLayout
from siglip_study.models.sizes import LlmShape
from siglip_study.models.vlm import VisionLanguageModel

SEED = 20


def manifest_rows(paths: Sequence[str]) -> pl.DataFrame:
    """The columns of a manifest by which clips are found and read, each a whole file."""
    names = [f"{i:04d}" for i in range(len(paths))]
    facts = {"id": names, "path": paths, "sha256": names, "reading": ["packets"] * len(names)}
    spans = {
        name: pl.Series([None] * len(names), dtype=pl.Float64) for name in ("start_s", "end_s")
    }
    return pl.DataFrame({**facts, **spans})


@dataclass(frozen=True)
class Case:
    """A projector and its published batch."""

    projector: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.projector}, {self.batch} clips"


@dataclass(frozen=True)
class Size:
    """Shapes of everything that is timed, and how often."""

    name: str
    # LLM (Qwen3)
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    lora: LoraConfig
    # features
    frames: int
    grid: tuple[int, int]
    vision_dim: int
    # captions
    text_limit: int  # the published method pads prompt and caption to this many tokens
    training_lengths: dict[str, tuple[int, int]]
    cases: tuple[Case, ...]
    small_memory_gb: dict[int, float]  # stage → GiB
    caption_budgets: tuple[int, ...]
    clips: int  # held-out clips
    quick: tuple[int, int]  # clips and tokens captioned after each epoch
    repeats: int
    matmul: int

    @property
    def patches(self) -> int:
        """Patches of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def shape(self) -> LlmShape:
        """The LLM's sizes."""
        sizes = self.layers, self.hidden, self.heads, self.kv_heads, self.head_dim
        return LlmShape(*sizes, self.ffn, self.vocab, tied=False)


FULL = Size(
    name="full",
    layers=36,
    hidden=4096,
    ffn=12288,
    heads=32,
    kv_heads=8,
    head_dim=128,
    vocab=151_936,
    lora=LoraConfig(),
    frames=8,
    grid=(24, 24),
    vision_dim=1024,
    text_limit=768,
    training_lengths={"120 to 400": (120, 400), "311 to 708": (311, 708)},
    cases=(Case("linear", 4), Case("query_abstractor", 16)),
    small_memory_gb={1: 14.9, 2: 18.6},  # 16 and 20 GB
    caption_budgets=(128, 512),
    clips=97,
    quick=(16, 64),
    repeats=4,
    matmul=8192,
)
MICRO = Size(
    name="micro",
    layers=2,
    hidden=64,
    ffn=128,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocab=300,
    lora=LoraConfig(r=4, alpha=8, dropout=0.0),
    frames=2,
    grid=(3, 3),
    vision_dim=24,
    text_limit=24,
    training_lengths={"5 to 12": (5, 12), "9 to 24": (9, 24)},
    cases=(Case("linear", 2), Case("query_abstractor", 3)),
    small_memory_gb={},
    caption_budgets=(6, 12),
    clips=5,
    quick=(3, 4),
    repeats=2,
    matmul=256,
)
SIZES = {size.name: size for size in (FULL, MICRO)}

# The lengths of the chat template around the video with the published prompt, and of that prompt.
BEFORE, AFTER, PROMPT = 4, 22, 10


def layout(size: Size) -> PromptLayout:
    """Fabricated token ids with the lengths of the real prompt; EOS is the last id but one."""
    ids = _generator().integers(0, size.vocab - 2, BEFORE + AFTER).tolist()
    before, after = tuple(ids[:BEFORE]), tuple(ids[BEFORE:])
    return PromptLayout(before, after, before + after, eos=size.vocab - 2, pad=size.vocab - 1)


def published_layout(size: Size) -> PromptLayout:
    """The published sequence: no chat template, the question right behind the video."""
    ours = layout(size)
    asked = ours.after[:PROMPT]
    return PromptLayout((), asked, asked, ours.eos, ours.pad)


def llm(size: Size, device: torch.device, matmul: str = "bf16") -> nn.Module:
    """The frozen language model with random weights; the same at every call.

    The row of EOS in its head is zero, so that no caption ends before its budget.
    """
    from transformers import Qwen3Config

    from siglip_study.models.quantization import random_llm, use_fp8

    config = Qwen3Config(
        vocab_size=size.vocab,
        hidden_size=size.hidden,
        intermediate_size=size.ffn,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        max_position_embeddings=40_960,
        tie_word_embeddings=False,
        # Wide enough at micro size for captions to differ.
        initializer_range=0.02 if size.name == FULL.name else 0.3,
        bos_token_id=None,
        eos_token_id=size.vocab - 2,
        pad_token_id=size.vocab - 1,
    )
    model: Any = random_llm(config, device, "nf4", SEED)
    with torch.no_grad():
        model.get_output_embeddings().weight[size.vocab - 2] = 0
    if matmul == "fp8":
        use_fp8(model)
    frozen: nn.Module = model.eval().requires_grad_(False)
    return frozen


def projector(size: Size, name: str) -> Any:
    """A fresh projector in fp32; the same weights at every call."""
    torch.manual_seed(SEED)
    shape = projectors.FeatureShape(size.frames, size.grid, size.vision_dim)
    return projectors.build(name, shape, size.hidden)


def vlm(size: Size, name: str, language_model: nn.Module) -> VisionLanguageModel:
    """The project's model around ``language_model``, with both scales left at 1 as published."""
    model = VisionLanguageModel(projector(size, name), language_model, layout(size))
    return model.to(next(language_model.parameters()).device)


def set_lora(model: nn.Module, std: float) -> None:
    """Draw the adapters' first factors anew, and the second ones with ``std`` (0: the identity)."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                spread = std if "lora_B" in name else 0.02
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)


def features(size: Size, clips: int, seed: int = SEED) -> Tensor:
    """bf16 ``[B, F, P, V]`` as the feature store holds them, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    shape = (clips, size.frames, size.patches, size.vision_dim)
    return torch.randn(shape, generator=generator).bfloat16()


class MadeFeatures:
    """A feature store without files: ids are row numbers of ready features."""

    def __init__(self, size: Size, clips: int) -> None:
        # More rows than this hold the same few clips again: memory, not variety, is the limit.
        self._rows = features(size, min(clips, 16))

    def batch(self, ids: Sequence[str]) -> Tensor:
        return self._rows[[int(clip) % len(self._rows) for clip in ids]]


def caption_lengths(low: int, high: int, n: int, seed: int = SEED) -> list[int]:
    """``n`` lengths in tokens, EOS included.

    120 to 400 is drawn evenly, as when the method's figures were first taken. 311 to 708 follows
    the collection's own captions (mean 402, median 388): 311 plus a gamma variable of shape 2.
    """
    generator = _generator(seed)
    if (low, high) == (311, 708):
        drawn = 311 + generator.gamma(2.0, 45.5, n)
        return [int(value) for value in np.minimum(drawn, high)]
    return [int(value) for value in generator.integers(low, high + 1, n)]


def captions(size: Size, lengths: Sequence[int], seed: int = SEED) -> list[tuple[int, ...]]:
    """Random token ids that end in EOS."""
    generator = _generator(seed)
    eos = size.vocab - 2
    return [(*generator.integers(0, eos, n - 1).tolist(), eos) for n in lengths]


class NoTokenizer:
    """Decodes token ids to their numbers: enough to compare two captions."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return " ".join(str(int(i)) for i in ids)

    def batch_decode(
        self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True
    ) -> list[str]:
        return [self.decode(row) for row in rows]


def _generator(seed: int = SEED) -> np.random.Generator:
    return np.random.default_rng(seed)
