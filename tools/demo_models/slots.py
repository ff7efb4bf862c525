"""What a text can hold in the place of video tokens: slots filled with the words true of a scene.

A projector hands the language model vectors, not words: sums of several facts, at any scale, with
noise and a common offset. The language model therefore reads, in the video's place, mixtures of
word embeddings of every kind, from clean words to nearly pure noise, always true of the scene.
Which words a slot mixes is a weight matrix over the 15 words of a scene (:func:`scene_words`): its
eight facts, and seven that say where its things are at the frame's time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from siglip_study.demo.captions import fact_words
from siglip_study.demo.lexicon import SYNONYMS
from siglip_study.demo.world import ATTRIBUTES, Scene
from tools.demo_models.scenes import FRAMES, PATCHES, Geometry

#: left, right, top, bottom, near, far, nothing here.
POSITION_WORDS = ("좌", "우", "상단", "하단", "근경", "원경", "빈칸")
THING, COLOUR, SIZE, COUNT, MOTION, PLACE, WEATHER, CAMERA = range(8)
LEFT, RIGHT, TOP, BOTTOM, NEAR, FAR, EMPTY = range(8, 15)
N_WORDS = 15
SLOTS = FRAMES * PATCHES
POOLED = 16


def slot_words() -> list[str]:
    """Every word that a slot may hold: one for each value of each attribute, and the positions."""
    values = [SYNONYMS[a][v][0] for a, vs in ATTRIBUTES.items() for v in vs]
    return [*dict.fromkeys(values), *POSITION_WORDS]


def scene_words(scene: Scene) -> list[str]:
    """The 15 words of a scene, in the order of the column constants."""
    return [*fact_words(scene).values(), *POSITION_WORDS]


@dataclass(frozen=True)
class SceneTensors:
    """Scenes on the training device: word ids [N, 15] and geometry (see ``Geometry``)."""

    word_ids: torch.Tensor
    cover: torch.Tensor
    centre: torch.Tensor
    zoom: torch.Tensor

    @classmethod
    def make(cls, word_ids: np.ndarray, geometry: Geometry, device: torch.device) -> SceneTensors:
        """Copy arrays to the device."""
        arrays = (word_ids, geometry.cover, geometry.centre, geometry.zoom)
        return cls(*(torch.as_tensor(a).to(device) for a in arrays))

    def at(self, rows: torch.Tensor) -> SceneTensors:
        """The scenes of some rows."""
        return SceneTensors(
            self.word_ids[rows], self.cover[rows], self.centre[rows], self.zoom[rows]
        )


def _exponential(like: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(like).exponential_()


def _picture(scenes: SceneTensors, signed: bool) -> torch.Tensor:
    """Weights [B, F, P, 15] of a text picture: things where they are, the setting elsewhere.

    ``signed``: positions as a signed difference (right minus left), as a linear map would write a
    coordinate; else as the probability of the word.
    """
    b = len(scenes.cover)
    device = scenes.cover.device
    weights = torch.zeros(b, FRAMES, PATCHES, N_WORDS, device=device)
    covered = scenes.cover.unsqueeze(-1)
    weights[..., THING : COUNT + 1] = covered
    bare = 1 - covered
    weights[..., [PLACE, WEATHER]] = bare
    weights[..., EMPTY] = bare[..., 0] * 0.7
    # Things drawn over the whole frame: what a tower with attention writes into every patch.
    everywhere = torch.rand(b, 1, 1, 1, device=device)
    everywhere = everywhere * (torch.rand_like(everywhere) < 0.7)
    weights[..., THING : COUNT + 1] = torch.maximum(weights[..., THING : COUNT + 1], everywhere)
    weights[..., [PLACE, WEATHER]] = torch.maximum(weights[..., [PLACE, WEATHER]], everywhere)
    x, y = scenes.centre.unbind(-1)
    pairs = ((RIGHT, LEFT, x), (BOTTOM, TOP, y), (NEAR, FAR, scenes.zoom))
    told = everywhere[:, 0]
    for high, low, value in pairs:
        value = value.unsqueeze(-1)
        if signed:
            slope = torch.rand(b, 1, 1, device=device) * 4 * (value - 0.5)
            weights[..., high], weights[..., low] = slope * told, -slope * told
        else:
            sure = torch.sigmoid((value - 0.5) * 12)
            weights[..., high], weights[..., low] = sure * told, (1 - sure) * told
    # The zoom shows in the background, whatever the things do.
    zoom = scenes.zoom.unsqueeze(-1)
    if signed:
        slope = torch.rand(b, 1, 1, device=device) * 3 * (zoom - 0.5)
        weights[..., NEAR] += slope * bare[..., 0]
        weights[..., FAR] -= slope * bare[..., 0]
    else:
        weights[..., NEAR] = torch.maximum(weights[..., NEAR], zoom * bare[..., 0] * 0.7)
        weights[..., FAR] = torch.maximum(weights[..., FAR], (1 - zoom) * bare[..., 0] * 0.7)
    return weights


def _one_hot_draw(weights: torch.Tensor) -> torch.Tensor:
    """Each slot keeps one word, drawn by its weights (≥ 0)."""
    noise = _exponential(weights)
    choice = (weights.clamp_min(1e-6) / noise).argmax(-1)
    return torch.nn.functional.one_hot(choice, N_WORDS).to(weights.dtype)


def _gains(weights: torch.Tensor) -> torch.Tensor:
    """Random emphasis: one factor a word and scene, a smaller one a slot; some words left out."""
    b = weights.shape[0]
    lead = (b,) + (1,) * (weights.ndim - 2) + (N_WORDS,)
    scene = torch.exp(0.7 * torch.randn(lead, device=weights.device))
    scene = scene * (torch.rand(lead, device=weights.device) > 0.06)
    return weights * scene * torch.exp(0.4 * torch.randn_like(weights))


def hard_pictures(scenes: SceneTensors) -> torch.Tensor:
    """One word a slot; weights [B, 64, 15], frame-major."""
    return _one_hot_draw(_picture(scenes, signed=False)).flatten(1, 2)


def soft_pictures(scenes: SceneTensors) -> torch.Tensor:
    """Mixtures of the words true at the slot, signed positions; weights [B, 64, 15]."""
    return _gains(_picture(scenes, signed=True)).flatten(1, 2)


def lists(scenes: SceneTensors) -> torch.Tensor:
    """Per frame, words in any order: positions told by words alone; weights [B, 64, 15]."""
    weights = hard_pictures(scenes).unflatten(1, (FRAMES, PATCHES))
    order = torch.rand(weights.shape[:3], device=weights.device).argsort(-1)
    return weights.gather(2, order.unsqueeze(-1).expand_as(weights)).flatten(1, 2)


def bags(scenes: SceneTensors, n: int, soft: bool) -> torch.Tensor:
    """``n`` slots of the eight facts, motion and camera stated, in any order; [B, n, 15]."""
    b, device = len(scenes.cover), scenes.cover.device
    facts = torch.rand(b, n, device=device).argsort(-1) % 8
    weights = torch.nn.functional.one_hot(facts, N_WORDS).float()
    if soft:
        few = _exponential(weights) * (torch.rand_like(weights) < 0.25)
        few[..., LEFT:] = 0
        weights = _gains(weights + few)
    return weights


def pooled(scenes: SceneTensors, soft: bool) -> torch.Tensor:
    """16 slots averaged from the 64: by quarters, by frame, or anyhow; weights [B, 16, 15]."""
    full = soft_pictures(scenes) if soft else hard_pictures(scenes)
    b, device = full.shape[0], full.device
    scores = torch.randn(b, POOLED, SLOTS, device=device)
    scores = scores * (4 * torch.rand(b, 1, 1, device=device))
    frame_of_slot = torch.arange(POOLED, device=device) // (POOLED // FRAMES)
    frame_of_token = torch.arange(SLOTS, device=device) // PATCHES
    other = frame_of_slot[:, None] != frame_of_token[None, :]
    by_frame = torch.rand(b, 1, 1, device=device) < 0.8
    scores = scores.masked_fill(by_frame & other, -20.0)
    patch = torch.arange(PATCHES, device=device)
    quarter_of_patch = (patch // 8) * 2 + (patch % 4) // 2
    quarter_of_token = quarter_of_patch.repeat(FRAMES)
    quarter_of_slot = torch.arange(POOLED, device=device) % 4
    by_quarter = torch.rand(b, 1, 1, device=device) < 0.3
    outside = quarter_of_slot[:, None] != quarter_of_token[None, :]
    scores = scores.masked_fill(by_frame & by_quarter & outside, -20.0)
    return scores.softmax(-1) @ full


def embed(
    weights: torch.Tensor, word_ids: torch.Tensor, table: torch.Tensor, disturb: bool
) -> torch.Tensor:
    """Slots as vectors: mixtures [B, S, 15] of the scene's words' embeddings, perhaps disturbed.

    Disturbed slots are scaled by 0.4 to 2.5 in sum, moved by an offset common to the scene's slots,
    and covered with Gaussian noise from far below to above the signal.

    Returns:
        [B, S, D] in the dtype of ``table``.
    """
    vectors = weights @ table[word_ids].float()
    if not disturb:
        return vectors.to(table.dtype)
    b, device = len(weights), weights.device
    unit = table.detach().float().pow(2).mean().sqrt()
    size = vectors.detach().pow(2).mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6)

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(b, 1, 1, device=device)

    def sometimes(p: float) -> torch.Tensor:
        return (torch.rand(b, 1, 1, device=device) < p).float()

    vectors = vectors / size
    offset = torch.randn(b, 1, vectors.shape[-1], device=device) * uniform(0, 1.5) * sometimes(0.5)
    sigma = torch.exp(uniform(-3.5, 0.9)) * sometimes(0.85)
    vectors = vectors + offset + sigma * torch.randn_like(vectors)
    vectors = vectors / (1 + offset.pow(2).mean((1, 2), keepdim=True) + sigma**2).sqrt()
    return (vectors * unit * torch.exp(uniform(-0.9, 0.9))).to(table.dtype)
