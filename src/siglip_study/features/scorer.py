"""The model that scores captions: frames and texts in one space (SigLIP, SigLIP 2, CLIP)."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siglip_study.devices import pick_device
from siglip_study.errors import StudyError
from siglip_study.features.chunking import chunk_text
from siglip_study.features.frame_embeddings import (
    read_frame_embeddings,
    read_frame_facts,
    write_frame_embeddings,
)
from siglip_study.features.images import load_transform
from siglip_study.hub import load_part, load_weights, read_model_json

__all__ = [
    "Scorer",
    "chunk_caption",
    "read_frame_embeddings",
    "read_frame_facts",
    "write_frame_embeddings",
]

#: text length of the published recipe
PUBLISHED_TOKENS = 64


@dataclass(frozen=True)
class _Family:
    """A kind of scorer: its class in transformers, and whether texts are padded to full length."""

    model: str
    pads_to_full_length: bool


# SigLIP reads the last position, so that its texts must always have the length of its training.
_FAMILIES = {
    "siglip": _Family("SiglipModel", True),
    "clip": _Family("CLIPModel", False),
}


class Scorer:
    """Unit embeddings of frames and texts; their dot product is the cosine."""

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        lowercase: bool = True,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        key: str = "scorer.model",
    ) -> None:
        """Load both towers and the tokenizer.

        Args:
            model: local folder or hub id.
            revision: pinned hub revision.
            lowercase: lower-case texts first, as SigLIP 2 was trained.
            device: where it runs; "auto": a GPU if there is one.
            dtype: None: bf16 on a GPU, fp32 on the CPU.
            key: the config key that errors name.

        Raises:
            StudyError: not at hand, not a supported scorer, or without a tokenizer.
        """
        import transformers

        self.device = pick_device(device)
        self.dtype = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        self.lowercase = lowercase
        raw = read_model_json(model, revision, ("config.json",), key)
        family = _FAMILIES.get(raw.get("model_type", ""))
        if family is None:
            raise StudyError(
                f"{key} '{model}' is of type '{raw.get('model_type')}'; expected a scorer of type "
                f"{', '.join(_FAMILIES)} (SigLIP 2 at a fixed resolution is 'siglip')."
            )
        self.transform = load_transform(model, revision, key)
        loader = getattr(transformers, family.model)
        self._model = load_weights(loader, model, revision, key, self.dtype).to(self.device)
        self._pads = family.pads_to_full_length
        self.tokenizer = load_part(transformers.AutoTokenizer, model, revision, key)
        self.max_positions = int(self._model.config.text_config.max_position_embeddings)
        self.logit_scale = math.exp(float(self._model.logit_scale))
        #: 0 where the family has none (CLIP)
        self.logit_bias = float(getattr(self._model, "logit_bias", None) or 0.0)
        self._facts = {
            "model": model,
            "revision": revision,
            "image_size": list(self.transform.size),
            "logit_scale": self.logit_scale,
            "logit_bias": self.logit_bias,
        }

    @property
    def facts(self) -> dict[str, Any]:
        """model, revision, image_size (h, w), logit_scale and logit_bias; JSON types."""
        return dict(self._facts)

    def prepare(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop uint8 RGB ``[F, H, W, 3]`` to the model's size; safe in threads."""
        return self.transform.prepare(frames)

    def image_embeddings(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 RGB ``[B, F, H, W, 3]`` → unit fp32 ``[B, F, E]`` on the CPU."""
        prepared = np.stack([self.prepare(np.asarray(clip)) for clip in frames])
        return self.image_embeddings_prepared(prepared)

    @torch.inference_mode()
    def image_embeddings_prepared(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """As :meth:`image_embeddings`, of frames that went through :meth:`prepare`."""
        batch = torch.as_tensor(frames).to(self.device)
        pixels = self.transform.normalise(batch.flatten(0, 1)).to(self.dtype)
        return _unit(self._model.get_image_features(pixel_values=pixels)).unflatten(
            0, batch.shape[:2]
        )

    def text_embeddings(self, texts: Sequence[str], batch: int = 64) -> Tensor:
        """Texts, each cut to the model's length → unit fp32 ``[N, E]`` on the CPU."""
        parts = [
            self._embed(self._tokens(list(texts[start : start + batch])))
            for start in range(0, len(texts), batch)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self._width())

    def caption_embeddings(
        self, captions: Sequence[str], batch: int = 64
    ) -> list[tuple[Tensor, Tensor]]:
        """Sentence chunks of each caption: unit ``[C, E]`` and lengths in tokens ``[C]``, fp32.

        Lengths do not count special tokens. An empty caption has C = 0. Chunks that occur in
        several captions are embedded once.
        """
        chunks = [self._chunks(caption) for caption in captions]
        flat = dict.fromkeys(chunk for found in chunks for chunk in found)
        distinct = {chunk: i for i, chunk in enumerate(flat)}
        embedded = self.text_embeddings(list(distinct), batch)
        lengths = torch.tensor([_length(self.tokenizer, chunk) for chunk in distinct])
        rows = [torch.tensor([distinct[c] for c in found], dtype=torch.long) for found in chunks]
        return [(embedded[row], lengths.float()[row]) for row in rows]

    def published_embeddings(self, captions: Sequence[str]) -> Tensor:
        """The published recipe: one piece cut at 64 tokens, as spelt, unpadded → unit ``[N, E]``.

        Kept as an audit column only: a SigLIP text tower reads the last position of a length that
        it was never trained with. A caption without a token (none at all, and a tokenizer that adds
        none) is a zero vector.
        """
        if not captions:
            return torch.zeros(0, self._width())
        limit = min(PUBLISHED_TOKENS, self.max_positions)
        rows = self.tokenizer(list(captions), truncation=True, max_length=limit)["input_ids"]
        result = torch.zeros(len(rows), self._width())
        for length in sorted({len(row) for row in rows if row}):
            same = [i for i, row in enumerate(rows) if len(row) == length]
            tokens = {"input_ids": torch.tensor([rows[i] for i in same])}
            result[same] = self._embed(tokens)
        return result

    def _chunks(self, caption: str) -> list[str]:
        return chunk_caption(self._spelt(caption), self.tokenizer, self.max_positions)

    def _spelt(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        return text.lower() if self.lowercase else text

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        encoded = self.tokenizer(
            [self._spelt(text) for text in texts],
            padding="max_length" if self._pads else True,
            truncation=True,
            max_length=self.max_positions,
            return_tensors="pt",
        )
        # SigLIP attends to its padding, as in its training; CLIP does not.
        names = ("input_ids",) if self._pads else ("input_ids", "attention_mask")
        return {name: encoded[name] for name in names}

    @torch.inference_mode()
    def _embed(self, tokens: dict[str, Tensor]) -> Tensor:
        moved = {name: tensor.to(self.device) for name, tensor in tokens.items()}
        return _unit(self._model.get_text_features(**moved))

    def _width(self) -> int:
        config = self._model.config
        width = getattr(config.text_config, "projection_size", None)
        return int(width if self._pads and width else config.projection_dim)


def chunk_caption(text: str, tokenizer: Any, max_tokens: int) -> list[str]:
    """Sentence chunks (see ``chunking``) of at most ``max_tokens``, special tokens included."""
    return chunk_text(text, lambda piece: len(tokenizer(piece)["input_ids"]), max_tokens)


def _length(tokenizer: Any, text: str) -> int:
    # A chunk whose characters all vanish in the tokenizer still counts as one.
    return max(1, len(tokenizer(text, add_special_tokens=False)["input_ids"]))


def _unit(features: Any) -> Tensor:
    # transformers 5 wraps the pooled vectors in an output object; earlier releases do not.
    vectors: Tensor = getattr(features, "pooler_output", features)
    return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu()
