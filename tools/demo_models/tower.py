"""Training of the micro vision tower: CLIP on frames, with patch tokens that say what is there.

A contrastive loss against frame captions trains the class token, and with it the last layer; the
study reads the patch tokens of the layer before. Auxiliary linear heads on those tokens (dropped
after training) ask each one what covers its patch and what the whole frame shows, as the patch
tokens of a large CLIP do after training on enough data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionModel

from siglip_study.demo.captions import fact_words
from siglip_study.demo.world import ATTRIBUTES, Scene
from tools.demo_models.pictures import CLIP_MEAN, CLIP_STD, disturb, normalise
from tools.demo_models.scales import Budget, train
from tools.demo_models.scenes import (
    PATCHES,
    PIXELS,
    Geometry,
    frame_times,
    geometries,
    labels,
    pictures,
    sample_scenes,
)
from tools.demo_models.tokenizer import language_tokenizer

WIDTH, TEXT_LENGTH = 192, 24
#: Attributes that one frame shows, by their column among the labels.
FRAME_ATTRIBUTES = ("thing", "colour", "size", "count", "place", "weather")
COLUMNS = [list(ATTRIBUTES).index(a) for a in FRAME_ATTRIBUTES]


def frame_caption(scene: Scene, x: float, y: float, rng: np.random.Generator) -> str:
    """A caption of one frame: what, where in the picture and in which setting, in any order."""
    said = fact_words(scene)
    column = ("왼쪽", "가운데", "오른쪽")[min(int(x * 3), 2)]
    row = ("위", "중간", "아래")[min(int(y * 3), 2)]
    phrases = [
        f"{said['size']} {said['colour']} {said['thing']} {said['count']}",
        f"{column} {row}",
        f"{said['place']}",
        f"{said['weather']}",
    ]
    rng.shuffle(phrases)
    return ", ".join(phrases)


class Auxiliary(nn.Module):
    """Linear heads on each patch token [N, P, D]: the frame's facts and geometry, the patch's."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = nn.ModuleList(nn.Linear(WIDTH, len(ATTRIBUTES[a])) for a in FRAME_ATTRIBUTES)
        self.geometry = nn.Linear(WIDTH, 3)
        self.cover = nn.Linear(WIDTH, 1)
        self.local = nn.ModuleList(
            nn.Linear(WIDTH, len(ATTRIBUTES[a]) + 1) for a in ("thing", "colour")
        )

    def forward(
        self, tokens: torch.Tensor, facts: torch.Tensor, place: torch.Tensor, cover: torch.Tensor
    ) -> torch.Tensor:
        """Sum of the losses, given labels [N, 8], (x, y, zoom) [N, 3] and cover [N, P]."""
        loss = functional.smooth_l1_loss(
            self.geometry(tokens), (place - 0.5).unsqueeze(1).expand(-1, PATCHES, -1) * 4, beta=0.2
        )
        for head, column in zip(self.facts, COLUMNS, strict=True):
            wanted = facts[:, column, None].expand(-1, PATCHES)
            loss = loss + 0.25 * functional.cross_entropy(
                head(tokens).flatten(0, 1), wanted.flatten()
            )
        loss = loss + functional.mse_loss(self.cover(tokens).squeeze(-1), cover)
        there = cover > 0.25
        for head, column in zip(self.local, (0, 1), strict=True):
            scores = head(tokens)
            # The last class is "nothing here".
            wanted = torch.where(there, facts[:, column, None], scores.shape[-1] - 1)
            loss = loss + 0.25 * functional.cross_entropy(scores.flatten(0, 1), wanted.flatten())
        return loss


def build_model(vocab_size: int, pad: int, end: int) -> CLIPModel:
    """An untrained CLIP; only its vision half is kept."""
    shared = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4}
    return CLIPModel(
        CLIPConfig(
            vision_config={
                **shared, "num_hidden_layers": 5, "image_size": PIXELS,
                "patch_size": 16, "hidden_act": "quick_gelu",
            },
            text_config={
                **shared, "num_hidden_layers": 3, "vocab_size": vocab_size,
                "max_position_embeddings": TEXT_LENGTH, "pad_token_id": pad, "eos_token_id": end,
                "bos_token_id": end,
            },
            projection_dim=WIDTH,
        )
    )  # fmt: skip


def image_processor() -> CLIPImageProcessor:
    """The processor that the study loads beside the tower."""
    return CLIPImageProcessor(
        size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS}
    )


def _texts(scenes: list[Scene], placed: Geometry, seed: int) -> tuple[np.ndarray, int, int, int]:
    """Token ids [N, F, L] of the frames' captions; vocabulary size, pad and end ids."""
    rng = np.random.default_rng((seed, 5))
    said = [
        frame_caption(scene, x, y, rng)
        for scene, centres in zip(scenes, placed.centre, strict=True)
        for x, y in centres
    ]
    tokenizer = language_tokenizer(said[:4000], ())
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = np.full((len(said), TEXT_LENGTH), pad, np.int64)
    for row, text in enumerate(tokenizer(said)["input_ids"]):
        text = [*text[: TEXT_LENGTH - 1], end]
        ids[row, : len(text)] = text
    return ids.reshape(*placed.centre.shape[:2], TEXT_LENGTH), len(tokenizer), pad, end


def train_tower(
    out: Path, budget: Budget, minutes: float | None, seed: int, device: torch.device, workers: int
) -> dict[str, float]:
    """Train the tower on the pool ``tower`` and save it with its processor to ``out``.

    Returns:
        What the card states of the training.
    """
    torch.manual_seed(seed)
    scenes = sample_scenes("tower", budget.scenes, seed)
    times = frame_times(len(scenes), seed, jitter=0.5)
    placed = geometries(scenes, times, workers)
    frames = torch.from_numpy(pictures(scenes, times, workers)).to(device).flatten(0, 1)
    ids, vocab, pad, end = _texts(scenes, placed, seed)
    texts = torch.from_numpy(ids).to(device).flatten(0, 1)
    n_frames = times.shape[1]
    facts = torch.from_numpy(labels(scenes)).to(device).repeat_interleave(n_frames, 0)
    place = np.concatenate([placed.centre, placed.zoom[..., None]], -1)
    where = torch.from_numpy(place).to(device).flatten(0, 1)
    cover = torch.from_numpy(placed.cover).to(device).flatten(0, 1)
    model, heads = build_model(vocab, pad, end).to(device), Auxiliary().to(device)

    def loss_at(step: int) -> torch.Tensor:
        rows = torch.randint(len(frames), (budget.batch,), device=device)
        pixels = disturb(normalise(frames[rows], CLIP_MEAN, CLIP_STD))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            seen = model.vision_model(pixels, output_hidden_states=True)
            text = model.text_model(texts[rows]).pooler_output
            image = functional.normalize(model.visual_projection(seen.pooler_output), dim=-1)
            text = functional.normalize(model.text_projection(text), dim=-1)
            logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
            same = torch.arange(len(rows), device=device)
            contrast = functional.cross_entropy(logits, same)
            contrast = contrast + functional.cross_entropy(logits.T, same)
            tokens = seen.hidden_states[-2][:, 1:]
            # A penalty on large features keeps them near unit scale, where a projector starts well.
            size = 0.01 * (tokens.float().pow(2).mean() - 1).clamp_min(0)
            return 0.5 * contrast + 2 * heads(tokens, facts[rows], where[rows], cover[rows]) + size

    steps = train([*model.parameters(), *heads.parameters()], loss_at, budget, minutes, "vision")
    tower = CLIPVisionModel(model.config.vision_config)
    # Releases differ in whether the tower is wrapped once more.
    inner = getattr(tower, "vision_model", tower)
    inner.load_state_dict(model.vision_model.state_dict())
    tower.eval().to(torch.bfloat16).save_pretrained(out)
    image_processor().save_pretrained(out)
    return {"scenes": budget.scenes, "steps": steps, "batch": budget.batch}
