"""Clips with features and tokenised captions, in an order that no projector can influence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.training.schedule import derived_seed


class Features(Protocol):
    """Anything that gives ``[B, F, P, V]`` for ids: a FeatureStore, or noise in its place."""

    def batch(self, ids: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class Clips:
    """Ids, features and, per clip, one or more captions as token ids that end in EOS."""

    ids: tuple[str, ...]
    features: Features
    captions: tuple[tuple[tuple[int, ...], ...], ...]
    truncated: int

    def __len__(self) -> int:
        return len(self.ids)

    def caption(self, index: int, epoch: int, seed: int) -> tuple[int, ...]:
        """The caption of a clip in an epoch; several take turns, alike in every cell."""
        options = self.captions[index]
        first = derived_seed("caption", seed, self.ids[index])
        return options[(first + epoch) % len(options)]


def tokenize_captions(
    tokenizer: Any, captions: Sequence[Sequence[str]], eos: int, max_tokens: int
) -> tuple[tuple[tuple[tuple[int, ...], ...], ...], int]:
    """Caption texts → token ids with EOS, cut to ``max_tokens`` in all; and how many were cut.

    A cut caption loses its EOS: the model is not taught to stop where a human did not. A caption
    that spells a special token is tokenised as the characters it spells.
    """
    flat = [text for texts in captions for text in texts]
    encoded = iter(
        tokenizer(flat, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    )
    rows, cut = [], 0
    for texts in captions:
        options = []
        for _ in texts:
            ids = [*next(encoded), eos]
            cut += len(ids) > max_tokens
            options.append(tuple(ids[:max_tokens]))
        rows.append(tuple(options))
    return tuple(rows), cut


def epoch_order(n: int, seed: int, stage: int, epoch: int) -> list[int]:
    """The order of clips in an epoch: a permutation that depends on nothing else."""
    generator = np.random.default_rng(derived_seed("order", seed, stage, epoch))
    return [int(i) for i in generator.permutation(n)]


def derangement(n: int, *seed: object) -> list[int]:
    """A seeded permutation without fixed points: one long cycle (Sattolo 1986).

    Raises:
        StudyError: n < 2, where there is no other clip.
    """
    if n < 2:
        raise StudyError(f"found {n} clip in a split; expected at least 2 to exchange captions.")
    generator = np.random.default_rng(derived_seed("derangement", *seed))
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = int(generator.integers(0, i))
        order[i], order[j] = order[j], order[i]
    return order


class NoiseFeatures:
    """Gaussian noise in place of a clip's features, fixed per clip: a world that must fail.

    Its RMS is 1; training scales features by their RMS, so only the information is gone.
    """

    def __init__(self, features: Features) -> None:
        self._features = features

    def batch(self, ids: Sequence[str]) -> Tensor:
        real = self._features.batch(ids)
        noise = torch.empty(real.shape, dtype=torch.float32)
        for row, clip in enumerate(ids):
            generator = torch.Generator().manual_seed(derived_seed("noise", clip))
            noise[row].normal_(generator=generator)
        return noise.to(real.dtype)
