"""What the trained micro models can do on scenes whose facts no training has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    Qwen3ForCausalLM,
    SiglipModel,
)

from siglip_study.demo.world import ATTRIBUTES, MULTI_FRAME_ATTRIBUTES
from tools.demo_models import sequence, slots
from tools.demo_models.lm import build_corpus
from tools.demo_models.measure import fact_accuracy, linear_probe, majority_share, retrieval
from tools.demo_models.pictures import HALF, normalise
from tools.demo_models.proof import BATCH, STEPS, TEST_CLIPS, TRAIN_CLIPS, patch_features, prove
from tools.demo_models.scenes import captions, frame_times, labels, pictures, sample_scenes
from tools.demo_models.scorer import text_ids

#: Clips among which the scorer must find a caption's own.
RETRIEVAL_CLIPS = 60


def tower_quality(
    tower: CLIPVisionModel, test_scenes: int, seed: int, workers: int
) -> dict[str, Any]:
    """Linear-probe accuracy per attribute from the patch tokens of the layer before the last.

    Single-frame attributes from the mean over patches and 4 frames; motion and camera from the
    patch means of the 4 frames side by side.
    """
    train = sample_scenes("tower", 4 * test_scenes, seed + 1)
    test = sample_scenes("tower", test_scenes, seed + 2, test=True)
    features = patch_features(tower, train + test, workers).float()
    wanted = torch.from_numpy(labels(train + test)).to(features.device)
    per_frame = features.mean(2)
    n = len(train)
    accuracy, majority = {}, {}
    for column, attribute in enumerate(ATTRIBUTES):
        several = attribute in MULTI_FRAME_ATTRIBUTES
        x = per_frame.flatten(1) if several else per_frame.mean(1)
        y = wanted[:, column]
        accuracy[attribute] = linear_probe(x[:n], y[:n], x[n:], y[n:])
        majority[attribute] = majority_share(y[n:])
    return {
        "linear_probe": accuracy,
        "majority": majority,
        "feature_rms": float(features.pow(2).mean().sqrt()),
    }


@torch.no_grad()
def lm_quality(
    lm: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    test_scenes: int,
    seed: int,
    workers: int,
) -> dict[str, Any]:
    """Perplexity a caption token and facts of greedy captions, by what the video span holds."""
    torch.manual_seed(seed)
    scenes = sample_scenes("lm", test_scenes, seed + 3, test=True)
    texts = captions(scenes, "clips", 1, seed + 3, workers)
    corpus = build_corpus(tokenizer, scenes, texts, seed, workers, lm.device, jitter=0.0)
    targets = [some[0] for some in corpus.captions]
    head, tail = sequence.head_ids(tokenizer), sequence.tail_ids(tokenizer)
    table = lm.get_input_embeddings().weight
    facts = corpus.scenes
    spans: dict[str, torch.Tensor | None] = {
        "none": None,
        "hard": slots.embed(slots.hard_pictures(facts), facts.word_ids, table, False),
        "soft": slots.embed(slots.soft_pictures(facts), facts.word_ids, table, False),
        "soft_noisy": slots.embed(slots.soft_pictures(facts), facts.word_ids, table, True),
        "pooled_16": slots.embed(slots.pooled(facts, True), facts.word_ids, table, False),
        "bag_16": slots.embed(slots.bags(facts, 16, False), facts.word_ids, table, False),
    }
    found: dict[str, Any] = {"perplexity": {}, "fact_accuracy": {}}
    for name, span in spans.items():
        prompt = sequence.blind_ids(tokenizer) if span is None else tail
        sums, tokens = sequence.target_losses(lm, head, span, [prompt] * len(targets), targets)
        found["perplexity"][name] = float((sums.sum() / tokens.sum()).exp())
        if span is not None:
            said = sequence.greedy(lm, tokenizer, span)
            found["fact_accuracy"][name] = fact_accuracy(said, scenes)
    found["embedding_rms"] = float(table.float().pow(2).mean().sqrt())
    found["tokens_per_caption"] = float(np.mean([len(t) for t in targets]))
    return found


@torch.no_grad()
def scorer_quality(
    scorer: SiglipModel,
    tokenizer: PreTrainedTokenizerFast,
    test_scenes: int,
    seed: int,
    workers: int,
) -> dict[str, Any]:
    """Caption → clip R@1 among 60 and margin D, with captions of both styles."""
    scenes = sample_scenes("scorer", test_scenes, seed + 4, test=True)
    times = frame_times(len(scenes), 0, 0.0)
    frames = torch.from_numpy(pictures(scenes, times, workers)).to(scorer.device)
    pixels = normalise(frames, HALF, HALF).to(scorer.dtype)
    parts = [scorer.vision_model(part).pooler_output for part in pixels.split(512)]
    images = functional.normalize(torch.cat(parts).float(), dim=-1)
    clips = functional.normalize(images.unflatten(0, times.shape).mean(1), dim=-1)
    group = min(RETRIEVAL_CLIPS, len(scenes))
    found: dict[str, Any] = {"among": group, "chance": 1 / group}
    for style in ("scorer", "clips"):
        texts = [c[0] for c in captions(scenes, style, 1, seed + 4, workers)]
        ids = text_ids(tokenizer, texts).to(scorer.device)
        said = torch.cat([scorer.text_model(part).pooler_output for part in ids.split(512)])
        similarity = (functional.normalize(said.float(), dim=-1) @ clips.T).cpu().numpy()
        spans = [slice(i, i + group) for i in range(0, len(scenes) - group + 1, group)]
        scores = [retrieval(similarity[span, span]) for span in spans]
        found[style] = {
            "r1": float(np.mean([r1 for r1, _ in scores])),
            "margin": float(np.mean([margin for _, margin in scores])),
        }
    return found


def measure(
    folder: Path, test_scenes: int, seed: int, device: torch.device, workers: int
) -> dict[str, Any]:
    """All of it, from the saved models, in fp32; prints the acceptance table."""

    def load(cls: Any, name: str) -> Any:
        return cls.from_pretrained(folder / name, dtype=torch.float32).to(device).eval()

    tower, lm = load(CLIPVisionModel, "vision"), load(Qwen3ForCausalLM, "llm")
    tokenizer = AutoTokenizer.from_pretrained(folder / "llm", trust_remote_code=False)
    scorer_words = AutoTokenizer.from_pretrained(folder / "scorer", trust_remote_code=False)
    found = {
        "vision": tower_quality(tower, test_scenes, seed, workers),
        "llm": lm_quality(lm, tokenizer, test_scenes, seed, workers),
        "scorer": scorer_quality(
            load(SiglipModel, "scorer"), scorer_words, test_scenes, seed, workers
        ),
    }
    small = test_scenes < RETRIEVAL_CLIPS
    sizes = {
        "train_clips": 16 if small else TRAIN_CLIPS,
        "test_clips": 8 if small else TEST_CLIPS,
        "steps": 2 if small else STEPS,
    }
    majority, proofs = prove(tower, lm, tokenizer, seed, **sizes)
    found["projector_proof"] = {
        "sizes": {
            "clips": sizes["train_clips"], "test": sizes["test_clips"], "steps": sizes["steps"],
            "batch": BATCH,
        },
        "majority": majority,
        "runs": [
            {"projector": p.projector, "learning_rate": p.rate, "loss": p.loss,
             "fact_accuracy": p.accuracy}
            for p in proofs
        ],
    }  # fmt: skip
    header = " ".join(f"{a[:7]:>7}" for a in ATTRIBUTES)
    print(f"{'projector':<18} loss  {header}")
    rows = [("majority", float("nan"), majority)]
    rows += [(f"{p.projector} {p.rate:g} {p.step_s:.3f}s", p.loss, p.accuracy) for p in proofs]
    for name, loss, accuracy in rows:
        print(f"{name:<18} {loss:5.3f} " + " ".join(f"{accuracy[a]:7.2f}" for a in ATTRIBUTES))
    for p in proofs:
        print(p.projector, p.rate, *p.captions[:2], sep=" | ")
    return found
