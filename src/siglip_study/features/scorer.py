"""The model that scores captions: frames and texts in one space (SigLIP, SigLIP 2, CLIP)."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.config.study import ScorerConfig
from siglip_study.features.chunking import chunk_text, split_sentences
from siglip_study.features.images import PatchTransform, image_settings, transform_from
from siglip_study.features.towers import FrameEncoder, Weights, load_frozen
from siglip_study.models.devices import pick_device
from siglip_study.models.hub import open_tokenizer, settings_of

#: text length of the published recipe
_PUBLISHED_TOKENS = 64
#: Blanks within a line.
_BLANKS = re.compile(r"[^\S\n]+")


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


class Scorer(FrameEncoder):
    """Unit embeddings of frames and texts; their dot product is the cosine."""

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        lowercase: bool = True,
        device: str | torch.device = "cpu",
        weights: Weights = "pretrained",
        key: str = "scorer.model",
    ) -> None:
        """Load both towers, in fp32, and the tokenizer.

        On a GPU products are rounded to TF32 (10 bits of mantissa where bf16 has 7; sums, norms and
        residuals stay whole).

        Args:
            model: local folder or hub id.
            revision: pinned hub revision.
            lowercase: lower-case texts first, as SigLIP 2 was trained.
            device: where it runs; "auto": a GPU if there is one.
            weights: "random" builds from the model's config with a fixed seed.
            key: the config key that errors name.

        Raises:
            StudyError: not at hand, not a supported scorer, or without a tokenizer.
        """
        import transformers

        self.device = pick_device(device)
        self.lowercase = lowercase
        raw = settings_of(model, revision, key, random=weights == "random")
        family = SCORER_FAMILIES.get(raw.get("model_type", ""))
        if family is None:
            raise StudyError(
                f"{key} '{model}' is of type '{raw.get('model_type')}'; expected a scorer of type "
                f"{', '.join(SCORER_FAMILIES)} (SigLIP 2 at a fixed resolution is 'siglip', NaFlex "
                "is 'siglip2')."
            )
        make_transform = PatchTransform if family.naflex else transform_from
        settings = image_settings(model, revision, key, weights)
        self.transform = make_transform(settings, f"{key} '{model}'")
        self._model = load_frozen(
            getattr(transformers, family.model),
            raw,
            *(model, revision, key, weights, torch.float32, self.device),
        )
        self._pads = family.pads_to_full_length
        self.tokenizer = open_tokenizer(model, revision, key)
        self.max_positions = int(self._model.config.text_config.max_position_embeddings)
        self.logit_scale = math.exp(float(self._model.logit_scale))
        #: 0 where the family has none (CLIP)
        self.logit_bias = float(getattr(self._model, "logit_bias", None) or 0.0)
        #: texts a pass
        self.text_batch = 512 if self.device.type == "cuda" else 64
        self.facts = {
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

    @torch.inference_mode()
    def encode_on_device(self, frames: Tensor) -> Tensor:
        """Prepared uint8 ``[B, F, …]`` → unit fp32 ``[B, F, E]``, both on the device."""
        inputs = self.transform.inputs(frames.flatten(0, 1))
        with _tf32(self.device):
            features = self._model.get_image_features(**inputs)
        return _unit(features).unflatten(0, frames.shape[:2])

    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Texts, each cut to the model's length → unit fp32 ``[N, E]`` on the CPU.

        Equal texts are embedded once. Texts go through the tower in order of their length, and come
        back from the device together.
        """
        spelt, places = _numbered(map(self._spelt, texts))
        if not places:
            return torch.zeros(0, self._width())
        rows = self.tokenizer(
            list(places),
            padding="max_length" if self._pads else False,
            truncation=True,
            max_length=self.max_positions,
        )["input_ids"]
        return self._embed(rows)[spelt]

    def caption_embeddings(self, captions: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """Sentence chunks of each caption: unit ``[C, E]`` and lengths in tokens ``[C]``, fp32.

        Lengths do not count special tokens. An empty caption has C = 0. Chunks that occur in
        several captions are embedded once.
        """
        spelt = [self._spelt(caption) for caption in captions]
        chunks = chunk_captions(spelt, self.tokenizer, self.max_positions)
        numbers, places = _numbered(chunk for found in chunks for chunk in found)
        embedded, lengths = self.text_embeddings(list(places)), torch.zeros(len(places))
        if places:
            rows = self.tokenizer(list(places), add_special_tokens=False)["input_ids"]
            # A chunk whose characters all vanish in the tokenizer still counts as one.
            lengths = torch.tensor([max(1.0, len(row)) for row in rows])
        own = torch.tensor(numbers, dtype=torch.long).split([len(found) for found in chunks])
        return [(embedded[row], lengths[row]) for row in own]

    def published_embeddings(self, captions: Sequence[str]) -> Tensor:
        """The published recipe: one piece cut at 64 tokens, as spelt, unpadded → unit ``[N, E]``.

        Kept as an audit column only: a SigLIP text tower reads the last position of a length that
        it was never trained with. A caption without a token (none at all, and a tokenizer that adds
        none) is a zero vector.
        """
        numbers, places = _numbered(captions)
        if not places:
            return torch.zeros(0, self._width())
        limit = min(_PUBLISHED_TOKENS, self.max_positions)
        rows = self.tokenizer(list(places), truncation=True, max_length=limit)["input_ids"]
        vectors = torch.zeros(len(rows), self._width())
        for length in sorted({len(row) for row in rows if row}):
            same = [i for i, row in enumerate(rows) if len(row) == length]
            vectors[same] = self._embed([rows[i] for i in same])
        return vectors[numbers]

    def _spelt(self, text: str) -> str:
        # A blank more is another token to many tokenizers; the end of a line ends a sentence.
        text = _BLANKS.sub(" ", unicodedata.normalize("NFC", text)).strip()
        return text.lower() if self.lowercase else text

    @torch.inference_mode()
    def _embed(self, rows: list[list[int]]) -> Tensor:
        """Token rows → unit fp32 ``[N, E]`` on the CPU; shorter ones are padded and masked."""
        batch = self.text_batch
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


def _numbered(texts: Iterable[str]) -> tuple[list[int], dict[str, int]]:
    """The number of each text among those that differ, and their numbers."""
    places: dict[str, int] = {}
    return [places.setdefault(text, len(places)) for text in texts], places


def chunk_captions(texts: Sequence[str], tokenizer: Any, max_tokens: int) -> list[list[str]]:
    """Sentence chunks of at most ``max_tokens``, special tokens included, of each text.

    Every chunk ends in a mark, so that who leaves out a full stop is scored as who sets it.
    Sentences are counted in one call.
    """
    sentences = list(dict.fromkeys(s for text in texts for s in split_sentences(text)))
    rows = tokenizer([_stopped(s) for s in sentences])["input_ids"] if sentences else []
    known = {sentence: len(row) for sentence, row in zip(sentences, rows, strict=True)}

    def count(piece: str) -> int:
        return known[piece] if piece in known else len(tokenizer(_stopped(piece))["input_ids"])

    return [[_stopped(chunk) for chunk in chunk_text(text, count, max_tokens)] for text in texts]


def _stopped(sentence: str) -> str:
    bare = sentence.rstrip(",;")
    return f"{bare}." if bare[-1:].isalnum() else sentence


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
