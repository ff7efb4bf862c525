"""The model that scores captions: frames and texts in one space (SigLIP, SigLIP 2, CLIP)."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.config.study import ScorerConfig
from siglip_study.features.chunking import chunk_text, split_sentences
from siglip_study.features.images import (
    FrameTransform,
    PatchTransform,
    image_settings,
    transform_from,
)
from siglip_study.features.towers import random_tower
from siglip_study.models.devices import pick_device
from siglip_study.models.hub import load_part, load_weights, settings_of

#: text length of the published recipe
_PUBLISHED_TOKENS = 64


@dataclass(frozen=True)
class ScorerFamily:
    """A kind of scorer: its class in transformers, and whether texts are padded to full length."""

    model: str
    pads_to_full_length: bool
    naflex: bool = False


# SigLIP reads the last position, so that its texts must always have the length of its training.
SCORER_FAMILIES = {
    "siglip": ScorerFamily("SiglipModel", True),
    "siglip2": ScorerFamily("Siglip2Model", True, naflex=True),
    "clip": ScorerFamily("CLIPModel", False),
}


class TextScorer(Protocol):
    """The part of :class:`Scorer` that embeds captions, for those who need no more of it."""

    def caption_embeddings(self, captions: Sequence[str]) -> Sequence[tuple[Tensor, Tensor]]:
        """Unit embeddings of each caption's chunks ``[C, E]``, and their lengths ``[C]``."""


class Scorer:
    """Unit embeddings of frames and texts; their dot product is the cosine."""

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        lowercase: bool = True,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        weights: Literal["pretrained", "random"] = "pretrained",
        key: str = "scorer.model",
    ) -> None:
        """Load both towers and the tokenizer.

        Args:
            model: local folder or hub id.
            revision: pinned hub revision.
            lowercase: lower-case texts first, as SigLIP 2 was trained.
            device: where it runs; "auto": a GPU if there is one.
            dtype: None: fp32, whose products are rounded to TF32 on a GPU (10 bits of mantissa
                where bf16 has 7, and sums, norms and residuals stay whole).
            weights: "random" builds from the model's config with a fixed seed.
            key: the config key that errors name.

        Raises:
            StudyError: not at hand, not a supported scorer, or without a tokenizer.
        """
        import transformers

        self.device = pick_device(device)
        self.dtype = dtype or torch.float32
        self.lowercase = lowercase
        raw = settings_of(model, revision, key, random=weights == "random")
        family = SCORER_FAMILIES.get(raw.get("model_type", ""))
        if family is None:
            raise StudyError(
                f"{key} '{model}' is of type '{raw.get('model_type')}'; expected a scorer of type "
                f"{', '.join(SCORER_FAMILIES)} (SigLIP 2 at a fixed resolution is 'siglip', NaFlex "
                "is 'siglip2')."
            )
        settings, source = image_settings(model, revision, key, weights), f"{key} '{model}'"
        made = PatchTransform if family.naflex else transform_from
        self.transform: FrameTransform | PatchTransform = made(settings, source)
        loader = getattr(transformers, family.model)
        if weights == "pretrained":
            self._model = load_weights(loader, model, revision, key, self.dtype).to(self.device)
        else:
            config = loader.config_class.from_dict(raw)
            self._model = random_tower(loader, config, self.device, self.dtype)
        self._pads = family.pads_to_full_length
        self.tokenizer = load_part(transformers.AutoTokenizer, model, revision, key)
        self.max_positions = int(self._model.config.text_config.max_position_embeddings)
        self.logit_scale = math.exp(float(self._model.logit_scale))
        #: 0 where the family has none (CLIP)
        self.logit_bias = float(getattr(self._model, "logit_bias", None) or 0.0)
        self._facts = {
            "model": model,
            "revision": revision,
            "weights": weights,
            "image_size": list(self.transform.size),
            "logit_scale": self.logit_scale,
            "logit_bias": self.logit_bias,
        }

    @classmethod
    def from_config(cls, config: ScorerConfig, device: str | torch.device) -> Scorer:
        """The scorer of a study; see the constructor."""
        return cls(config.model, config.revision, config.lowercase, device, weights=config.weights)

    @property
    def facts(self) -> dict[str, Any]:
        """model, revision, weights, image_size (h, w), logit_scale, logit_bias; JSON types."""
        return dict(self._facts)

    def prepare(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 RGB ``[F, H, W, 3]`` as the model wants it, of one shape; safe in threads."""
        return self.transform.prepare(frames)

    def image_embeddings(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 RGB ``[B, F, H, W, 3]`` → unit fp32 ``[B, F, E]`` on the CPU."""
        prepared = np.stack([self.prepare(np.asarray(clip)) for clip in frames])
        return self.image_embeddings_prepared(prepared)

    def image_embeddings_prepared(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """As :meth:`image_embeddings`, of frames that went through :meth:`prepare`."""
        return self.image_embeddings_on_device(torch.as_tensor(frames).to(self.device)).cpu()

    @torch.inference_mode()
    def image_embeddings_on_device(self, frames: Tensor) -> Tensor:
        """Prepared uint8 ``[B, F, …]`` → unit fp32 ``[B, F, E]``, both on the device."""
        inputs = self.transform.inputs(frames.flatten(0, 1), self.dtype)
        with _tf32(self.device):
            features = self._model.get_image_features(**inputs)
        return _unit(features).unflatten(0, frames.shape[:2])

    def text_embeddings(self, texts: Sequence[str], batch: int | None = None) -> Tensor:
        """Texts, each cut to the model's length → unit fp32 ``[N, E]`` on the CPU.

        Equal texts are embedded once. Texts go through the tower in order of their length, and come
        back from the device together.

        Args:
            texts: any number.
            batch: texts a pass; None: 64 on the CPU, 512 on a GPU.
        """
        places = {text: i for i, text in enumerate(dict.fromkeys(map(self._spelt, texts)))}
        if not places:
            return torch.zeros(0, self._width())
        rows = self.tokenizer(
            list(places),
            padding="max_length" if self._pads else False,
            truncation=True,
            max_length=self.max_positions,
        )["input_ids"]
        vectors = self._embed(rows, batch or self._text_batch())
        return vectors[[places[self._spelt(text)] for text in texts]]

    def caption_embeddings(
        self, captions: Sequence[str], batch: int | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Sentence chunks of each caption: unit ``[C, E]`` and lengths in tokens ``[C]``, fp32.

        Lengths do not count special tokens. An empty caption has C = 0. Chunks that occur in
        several captions are embedded once.
        """
        spelt = [self._spelt(caption) for caption in captions]
        chunks = chunk_captions(spelt, self.tokenizer, self.max_positions)
        places = {chunk: i for i, chunk in enumerate(dict.fromkeys(c for f in chunks for c in f))}
        embedded = self.text_embeddings(list(places), batch)
        lengths = torch.tensor(_lengths(self.tokenizer, list(places)), dtype=torch.float32)
        rows = [torch.tensor([places[c] for c in found], dtype=torch.long) for found in chunks]
        return [(embedded[row], lengths[row]) for row in rows]

    def published_embeddings(self, captions: Sequence[str]) -> Tensor:
        """The published recipe: one piece cut at 64 tokens, as spelt, unpadded → unit ``[N, E]``.

        Kept as an audit column only: a SigLIP text tower reads the last position of a length that
        it was never trained with. A caption without a token (none at all, and a tokenizer that adds
        none) is a zero vector.
        """
        places = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        if not places:
            return torch.zeros(0, self._width())
        limit = min(_PUBLISHED_TOKENS, self.max_positions)
        rows = self.tokenizer(list(places), truncation=True, max_length=limit)["input_ids"]
        vectors = torch.zeros(len(rows), self._width())
        for length in sorted({len(row) for row in rows if row}):
            same = [i for i, row in enumerate(rows) if len(row) == length]
            vectors[same] = self._embed([rows[i] for i in same], self._text_batch())
        return vectors[[places[caption] for caption in captions]]

    def _text_batch(self) -> int:
        return 512 if self.device.type == "cuda" else 64

    def _spelt(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        return text.lower() if self.lowercase else text

    @torch.inference_mode()
    def _embed(self, rows: list[list[int]], batch: int) -> Tensor:
        """Token rows → unit fp32 ``[N, E]`` on the CPU; shorter ones are padded and masked."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        lengths = [len(rows[i]) for i in order]
        padding = self.tokenizer.pad_token_id or 0
        ids = [rows[i] + [padding] * (lengths[-1] - len(rows[i])) for i in order]
        # One copy there and one back: each would make Python wait for the GPU.
        every, sizes = (torch.tensor(x).to(self.device) for x in (ids, lengths))
        parts = []
        for start in range(0, len(rows), batch):
            width = lengths[min(start + batch, len(rows)) - 1]
            tokens = {"input_ids": every[start : start + batch, :width]}
            # SigLIP attends to its padding, as in its training: its rows have one length.
            if lengths[start] < width:
                places = torch.arange(width, device=self.device)
                tokens["attention_mask"] = (places < sizes[start : start + batch, None]).long()
            with _tf32(self.device):
                parts.append(_unit(self._model.get_text_features(**tokens)))
        result = torch.empty(len(rows), parts[0].shape[1])
        result[order] = torch.cat(parts).cpu()
        return result

    def _width(self) -> int:
        config = self._model.config
        width = getattr(config.text_config, "projection_size", None)
        return int(width if self._pads and width else config.projection_dim)


def chunk_captions(texts: Sequence[str], tokenizer: Any, max_tokens: int) -> list[list[str]]:
    """Sentence chunks of at most ``max_tokens``, special tokens included, of each text.

    Sentences are counted in one call.
    """
    sentences = list(dict.fromkeys(s for text in texts for s in split_sentences(text)))
    rows = tokenizer(sentences)["input_ids"] if sentences else []
    known = {sentence: len(row) for sentence, row in zip(sentences, rows, strict=True)}

    def count(piece: str) -> int:
        return known[piece] if piece in known else len(tokenizer(piece)["input_ids"])

    return [chunk_text(text, count, max_tokens) for text in texts]


def _lengths(tokenizer: Any, texts: list[str]) -> list[int]:
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    # A chunk whose characters all vanish in the tokenizer still counts as one.
    return [max(1, len(row)) for row in rows]


@contextmanager
def _tf32(device: torch.device) -> Iterator[None]:
    """Fast fp32 products on a GPU, within the block only: the setting is torch's, for all."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _unit(features: Any) -> Tensor:
    # transformers 5 wraps the pooled vectors in an output object; earlier releases do not.
    vectors: Tensor = getattr(features, "pooler_output", features)
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
