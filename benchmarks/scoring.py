"""SigLIP scores: every caption with its frames through the whole model, against cached frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import FULL, SEED, Size
from benchmarks.models import scorer_folder
from benchmarks.published.scoring import score_one
from benchmarks.tables import Result, Table
from benchmarks.timing import Timing, free, measure
from siglip_study.features.images import load_transform
from siglip_study.features.scorer import Scorer
from siglip_study.metrics.siglip import Frames, clip_vectors, score_matrix, siglip_published

WORDS = [
    *("빨간", "공이", "푸른", "들판을", "천천히", "굴러가고", "뒤에는", "높은", "건물과", "나무가"),
    *("보인다", "사람이", "자전거를", "타고", "왼쪽에서", "지나가며", "하늘에는", "구름이", "떠"),
]
COMPARED = 2  # captions whose published score both codes compute


@dataclass
class Ours:
    """The project's side: frames once, texts for every captioning; the published score as well."""

    images: Timing
    texts: Timing
    chunks: float  # a caption, mean
    audit: np.ndarray


def captions(n: int, sentences: int) -> list[str]:
    """Korean sentences of 12 words, no caption like another."""
    generator = np.random.default_rng(SEED)
    return [
        " ".join(" ".join(generator.choice(WORDS, 12)) + "." for _ in range(sentences))
        for _ in range(n)
    ]


def run(size: Size, device: torch.device) -> Result:
    """Time both sides on the same weights, frames and captions."""
    texts = captions(size.clips, 8 if size is FULL else 2)
    some = min(16, size.clips)
    with scorer_folder(size, device) as folder:
        transform = load_transform(str(folder), None, "scorer.model")
        shape = (some, size.frames, *transform.size, 3)
        frames = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
        mine = _project(folder, frames, texts, device)
        free(device)
        pixels = [transform.normalise(torch.from_numpy(clip)) for clip in frames[:COMPARED]]
        published, scores = _published(folder, pixels, texts, size, device)

    each, image = mine.texts.seconds / size.clips, mine.images.seconds / some
    result = Result()
    result.agreement["the published score, by either code"] = max(
        abs(float(a) - b) for a, b in zip(mine.audit, scores, strict=True)
    )
    slow = published.seconds
    table = Table(
        f"Scoring, {size.clips} captions", ["a caption", "s", "published / this", "peak GiB"]
    )
    table.rows = [
        [
            f"published: {size.frames} frames and the text, fp32, one caption a call",
            slow,
            1.0,
            published.peak_gib,
        ],
        ["ours: frames cached", each, slow / each, mine.texts.peak_gib],
        [
            "ours: the first time, frames embedded as well",
            each + image,
            slow / (each + image),
            mine.images.peak_gib,
        ],
    ]
    table.notes = [
        f"Captions of {mine.chunks:.3g} sentence chunks on average, all of which are scored "
        "against all clips; the published method reads the first 64 tokens of a caption and one "
        "clip. Left out on its side: reading and resizing the frames and loading the processor, "
        "which it did anew for each caption.",
    ]
    result.tables.append(table)
    result.parts = {"scoring/ours": each, "scoring/ours/image": image, "scoring/published": slow}
    return result


def _project(folder: Path, frames: np.ndarray, texts: list[str], device: torch.device) -> Ours:
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
    return Ours(images, spoken, float(np.mean(chunks)), audit)


def _published(
    folder: Path, pixels: list[torch.Tensor], texts: list[str], size: Size, device: torch.device
) -> tuple[Timing, list[float]]:
    from transformers import AutoTokenizer, SiglipModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = SiglipModel.from_pretrained(folder, dtype=torch.float32)
    model.to(device).eval()

    def one(i: int) -> float:
        return score_one(model, tokenizer, pixels[i % COMPARED], texts[i % COMPARED])

    timing = measure(one, device, warmup=2, repeats=8 if size is FULL else 2)
    return timing, [one(i) for i in range(COMPARED)]
