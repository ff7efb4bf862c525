"""Training of the micro scorer: SigLIP on single frames and captions of a style of its own."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch.nn import functional
from transformers import (
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from tools.demo_models.pictures import HALF, disturb, normalise
from tools.demo_models.scales import Budget, train
from tools.demo_models.scenes import PIXELS, captions, frame_times, pictures, sample_scenes
from tools.demo_models.tokenizer import SCORER_MAX_LENGTH, scorer_tokenizer

WIDTH = 192
VARIANTS = 4


def loosen(text: str, draw: random.Random) -> str:
    """A caption as it is, or one of its sentences, or with words dropped or shuffled.

    Captions to be judged come in other sentences than the training's, and in chunks: the text tower
    should lean on words more than on their order.
    """
    kind = draw.random()
    if kind < 0.4:
        return text
    if kind < 0.6:
        return draw.choice([s for s in text.split(".") if s.strip()]).strip() + "."
    parts = text.replace(".", "").split()
    if kind < 0.8:
        draw.shuffle(parts)
    return " ".join([p for p in parts if draw.random() > 0.2] or parts)


def build_model(vocab_size: int, pad: int, end: int) -> SiglipModel:
    """An untrained SigLIP: 64 px in 8 px patches, 64 text positions."""
    shared = {
        "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_attention_heads": 4,
        "num_hidden_layers": 4,
    }  # fmt: skip
    text = {
        **shared, "vocab_size": vocab_size, "max_position_embeddings": SCORER_MAX_LENGTH,
        "pad_token_id": pad, "eos_token_id": end, "bos_token_id": end, "projection_size": WIDTH,
    }  # fmt: skip
    vision = {**shared, "image_size": PIXELS, "patch_size": 8}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def processor(tokenizer: PreTrainedTokenizerFast) -> SiglipProcessor:
    """The processor that the study loads beside the scorer."""
    images = SiglipImageProcessor(
        size={"height": PIXELS, "width": PIXELS}, image_mean=list(HALF), image_std=list(HALF)
    )
    return SiglipProcessor(image_processor=images, tokenizer=tokenizer)


def text_ids(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """Token ids [N, 64], padded as the study pads them."""
    return tokenizer(
        texts, padding="max_length", truncation=True, max_length=SCORER_MAX_LENGTH,
        return_tensors="pt",
    )["input_ids"]  # fmt: skip


def train_scorer(
    out: Path, budget: Budget, minutes: float | None, seed: int, device: torch.device, workers: int
) -> dict[str, float]:
    """Train the scorer on the pool ``scorer`` and save it with its processor to ``out``.

    Returns:
        What the card states of the training.
    """
    torch.manual_seed(seed)
    draw = random.Random(seed)
    scenes = sample_scenes("scorer", budget.scenes, seed)
    times = frame_times(len(scenes), seed, jitter=0.5)
    texts = captions(scenes, "scorer", VARIANTS, seed, workers)
    tokenizer = scorer_tokenizer(text for some in texts[:20_000] for text in some)
    # Each caption is written in several loosened forms once, so that no step waits for a tokenizer.
    loose = [loosen(text, draw) for some in texts for text in some]
    ids = text_ids(tokenizer, loose).to(device).unflatten(0, (len(scenes), VARIANTS))
    frames = torch.from_numpy(pictures(scenes, times, workers)).to(device)
    model = build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id).to(device)
    with torch.no_grad():
        model.logit_scale.fill_(2.3)
        model.logit_bias.fill_(-8.0)

    def loss_at(step: int) -> torch.Tensor:
        rows = torch.randint(len(frames), (budget.batch,), device=device)
        which = torch.randint(frames.shape[1], (budget.batch,), device=device)
        variant = torch.randint(VARIANTS, (budget.batch,), device=device)
        pixels = disturb(normalise(frames[rows, which], HALF, HALF))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            image = model.vision_model(pixels).pooler_output
            text = model.text_model(ids[rows, variant]).pooler_output
            image = functional.normalize(image.float(), dim=-1)
            text = functional.normalize(text.float(), dim=-1)
        logits = model.logit_scale.exp() * image @ text.T + model.logit_bias
        sign = 2 * torch.eye(len(rows), device=device) - 1
        return -functional.logsigmoid(sign * logits).sum() / len(rows)

    steps = train(list(model.parameters()), loss_at, budget, minutes, "scorer")
    model.eval().to(torch.bfloat16).save_pretrained(out)
    processor(tokenizer).save_pretrained(out)
    return {"scenes": budget.scenes, "steps": steps, "batch": budget.batch}
