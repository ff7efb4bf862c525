"""The acceptance test of the micro models: can a small projector learn to steer the LM by them?"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import nn
from transformers import CLIPVisionModel, PreTrainedTokenizerFast, Qwen3ForCausalLM

from siglip_study.demo.world import Scene, sample_scene
from tools.demo_models import sequence
from tools.demo_models.measure import fact_accuracy, majority_accuracy
from tools.demo_models.pictures import CLIP_MEAN, CLIP_STD, normalise
from tools.demo_models.scenes import captions, frame_times, pictures

TRAIN_CLIPS, TEST_CLIPS, STEPS, BATCH = 200, 60, 100, 16
RATES = {"linear": (1e-3, 3e-3, 1e-2), "mlp": (1e-3, 3e-3)}


@dataclass(frozen=True)
class Proof:
    """Outcome of one projector: mean loss of the last 10 steps, facts, seconds a step."""

    projector: str
    rate: float
    loss: float
    accuracy: dict[str, float]
    step_s: float
    captions: list[str]


def clip_scenes(n: int, seed: int) -> list[Scene]:
    """Distinct scenes of the pool ``clips``."""
    rng = np.random.default_rng(seed)
    found: dict[Scene, None] = {}
    while len(found) < n:
        found[sample_scene(rng, "clips")] = None
    return list(found)


@torch.no_grad()
def patch_features(tower: CLIPVisionModel, scenes: list[Scene], workers: int = 1) -> torch.Tensor:
    """Patch tokens of the layer before the last; [N, F, P, V]."""
    frames = torch.from_numpy(pictures(scenes, frame_times(len(scenes), 0, 0.0), workers))
    frames = frames.to(tower.device)
    pixels = normalise(frames, CLIP_MEAN, CLIP_STD).to(tower.dtype)
    parts = [
        tower(part, output_hidden_states=True).hidden_states[-2][:, 1:]
        for part in pixels.split(512)
    ]
    return torch.cat(parts).unflatten(0, frames.shape[:2])


def _projector(kind: str, width: int, to: int) -> nn.Sequential:
    if kind == "linear":
        return nn.Sequential(nn.Linear(width, to))
    return nn.Sequential(nn.Linear(width, to), nn.GELU(), nn.Linear(to, to))


def prove(
    tower: CLIPVisionModel,
    lm: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    seed: int = 0,
    train_clips: int = TRAIN_CLIPS,
    test_clips: int = TEST_CLIPS,
    steps: int = STEPS,
) -> tuple[dict[str, float], list[Proof]]:
    """Train throw-away projectors on a few clips with all else frozen, and read their captions.

    Returns:
        The accuracy of constant answers, and a Proof per projector and learning rate.
    """
    scenes = clip_scenes(train_clips + test_clips, seed + 500)
    train, test = scenes[:train_clips], scenes[train_clips:]
    features = patch_features(tower, scenes).flatten(1, 2)
    texts = [c[0] for c in captions(train, "clips", 1, seed, 1)]
    targets = sequence.target_ids(tokenizer, texts)
    head, tail = sequence.head_ids(tokenizer), sequence.tail_ids(tokenizer)
    unit = lm.get_input_embeddings().weight.detach().pow(2).mean().sqrt()
    lm.requires_grad_(False)
    epochs = 1 + steps * BATCH // train_clips
    proofs = []
    for kind, rates in RATES.items():
        for rate in rates:
            torch.manual_seed(seed)
            projector = _projector(kind, features.shape[-1], lm.config.hidden_size).to(lm.device)
            with torch.no_grad():
                gain = unit / projector(features[:train_clips]).pow(2).mean().sqrt()
                for parameter in projector[-1].parameters():
                    parameter.mul_(gain)
            optimizer = torch.optim.AdamW(projector.parameters(), lr=rate)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, rate, total_steps=steps, pct_start=0.06
            )
            order = torch.cat([torch.randperm(train_clips) for _ in range(epochs)])
            losses, start = [], perf_counter()
            for step in range(steps):
                rows = order[step * BATCH : (step + 1) * BATCH]
                sums, tokens = sequence.target_losses(
                    lm, head, projector(features[rows.to(lm.device)]), [tail] * len(rows),
                    [targets[i] for i in rows.tolist()],
                )  # fmt: skip
                loss = sums.sum() / tokens.sum()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
            took = (perf_counter() - start) / steps
            with torch.no_grad():
                said = sequence.greedy(lm, tokenizer, projector(features[train_clips:]))
            tail_loss = sum(losses[-10:]) / len(losses[-10:])
            proofs.append(Proof(kind, rate, tail_loss, fact_accuracy(said, test), took, said))
    return majority_accuracy(train, test), proofs
