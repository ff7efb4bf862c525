"""SigLIP scores: every caption with its frames through the whole model, against cached frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import FULL, SEED, Size
from benchmarks.models import scorer_folder
from benchmarks.published.scoring import score_one
from benchmarks.sides import Found
from benchmarks.tables import Result, Table
from benchmarks.timing import measure
from siglip_study.features.images import load_transform
from siglip_study.features.scorer import Scorer
from siglip_study.metrics.siglip import Frames, clip_vectors, score_matrix, siglip_published

WORDS = [
    *("빨간", "공이", "푸른", "들판을", "천천히", "굴러가고", "뒤에는", "높은", "건물과", "나무가"),
    *("보인다", "사람이", "자전거를", "타고", "왼쪽에서", "지나가며", "하늘에는", "구름이", "떠"),
]
COMPARED = 2  # captions whose published score both codes compute


Figures = dict[str, Any]


def captions(n: int, sentences: int) -> list[str]:
    """Korean sentences of 12 words, no caption like another."""
    generator = np.random.default_rng(SEED)
    return [
        " ".join(" ".join(generator.choice(WORDS, 12)) + "." for _ in range(sentences))
        for _ in range(n)
    ]


def _work(size: Size, folder: Path) -> tuple[Any, np.ndarray, list[str]]:
    """The scorer's image transform, ready frames, and captions."""
    transform = load_transform(str(folder), None, "scorer.model")
    shape = (min(16, size.clips), size.frames, *transform.size, 3)
    frames = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
    return transform, frames, captions(size.clips, 8 if size is FULL else 2)


def run_ours(size: Size, device: torch.device) -> Figures:
    """Frames once, texts for every captioning; the published score as well."""
    with scorer_folder(size, device) as folder:
        _, frames, texts = _work(size, folder)
        return _project(folder, frames, texts, device)


def run_published(size: Size, device: torch.device) -> Figures:
    """Every caption with its frames."""
    with scorer_folder(size, device) as folder:
        transform, frames, texts = _work(size, folder)
        pixels = [transform.normalise(torch.from_numpy(clip)) for clip in frames[:COMPARED]]
        return _published(folder, pixels, texts, size, device)


#: Each side runs in a process of its own.
SIDES = {"published": run_published, "ours": run_ours}


def table(size: Size, device: torch.device, found: Found) -> Result:
    """Both sides beside each other."""
    mine, theirs = found.first("ours"), found.first("published")
    slow = found.middle("published", "seconds")
    each, image = (found.middle("ours", key) for key in ("text", "image"))
    result = Result()
    result.agreement["the published score, by either code"] = max(
        abs(a - b) for a, b in zip(mine["audit"], theirs["scores"], strict=True)
    )
    shown = Table(
        f"Scoring, {size.clips} captions", ["a caption", "s", "published / this", "peak GiB"]
    )
    alone = f"published: {size.frames} frames and the text, fp32, one caption a call"
    whole = each + image
    shown.rows = [
        [alone, slow, 1.0, theirs["peak_gib"]],
        ["ours: frames cached", each, slow / each, mine["text_gib"]],
        ["ours: the first time, frames embedded as well", whole, slow / whole, mine["image_gib"]],
    ]
    shown.notes = [
        f"Captions of {mine['chunks']:.3g} sentence chunks on average, all of which are scored "
        "against all clips; the published method reads the first 64 tokens of a caption and one "
        "clip. Left out on its side: reading and resizing the frames and loading the processor, "
        "which it did anew for each caption. Processes: "
        f"{found.counted()}; with frames cached the ratio was "
        f"{found.ratio(['seconds'], ['text']).spread}.",
    ]
    result.tables.append(shown)
    result.parts = {"scoring/ours": each, "scoring/ours/image": image, "scoring/published": slow}
    return result


def _project(folder: Path, frames: np.ndarray, texts: list[str], device: torch.device) -> Figures:
    scorer = Scorer(str(folder), device=device)
    cached: list[np.ndarray] = []
    chunks: list[int] = []

    def image_side(_: int) -> None:
        cached[:] = list(scorer.encode_prepared(torch.from_numpy(frames)).numpy())

    images = measure(image_side, device, warmup=1, repeats=3)
    clips = clip_vectors([cached[i % len(cached)] for i in range(len(texts))])

    def text_side(_: int) -> None:
        found = scorer.caption_embeddings(texts)
        chunks[:] = [len(vectors) for vectors, _ in found]
        embedded = [vectors.numpy() for vectors, _ in found]
        score_matrix(embedded, [weights.numpy() for _, weights in found], clips)

    spoken = measure(text_side, device, warmup=1, repeats=3)
    audit = siglip_published(
        scorer.published_embeddings(texts[:COMPARED]).numpy(),
        Frames(cached[:COMPARED]),
        scorer.logit_scale,
        scorer.logit_bias,
    )
    return {
        "image": images.seconds / len(frames),
        "image_gib": images.peak_gib,
        "text": spoken.seconds / len(texts),
        "text_gib": spoken.peak_gib,
        "chunks": float(np.mean(chunks)),
        "audit": [float(score) for score in audit],
    }


def _published(
    folder: Path, pixels: list[torch.Tensor], texts: list[str], size: Size, device: torch.device
) -> Figures:
    from transformers import AutoTokenizer, SiglipModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = SiglipModel.from_pretrained(folder, dtype=torch.float32)
    model.to(device).eval()

    def one(i: int) -> float:
        return score_one(model, tokenizer, pixels[i % COMPARED], texts[i % COMPARED])

    timing = measure(one, device, warmup=2, repeats=8 if size is FULL else 2)
    return {
        "seconds": timing.seconds,
        "peak_gib": timing.peak_gib,
        "scores": [one(i) for i in range(COMPARED)],
    }
