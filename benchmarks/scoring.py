"""SigLIP scores: every caption with its frames through the whole model, against cached frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.inputs import FULL, SEED, Size
from benchmarks.models import scorer_folder
from benchmarks.published.scoring import score_one
from benchmarks.tables import Result, Table
from benchmarks.timing import free, measure
from siglip_study.features.scorer import Scorer
from siglip_study.metrics.siglip import clip_vectors, score_matrix, siglip_published

_WORDS = (
    "빨간 공이 푸른 들판을 천천히 굴러가고 뒤에는 높은 건물과 나무가 보인다 한 사람이 자전거를 타고 "
    "왼쪽에서 오른쪽으로 지나가며 하늘에는 구름이 떠 있고 카메라는 조금씩 앞으로 움직인다"
).split()


def captions(n: int, sentences: int) -> list[str]:
    """Korean sentences of 12 words, no caption like another."""
    generator = np.random.default_rng(SEED)
    return [
        " ".join(" ".join(generator.choice(_WORDS, 12)) + "." for _ in range(sentences))
        for _ in range(n)
    ]


def run(size: Size, device: torch.device) -> Result:
    """Time both sides on the same weights, frames and captions."""
    texts = captions(size.clips, 8 if size is FULL else 2)
    some = min(16, size.clips)
    with scorer_folder(size, device) as folder:
        scorer = Scorer(str(folder), device=device)
        height, width = scorer.transform.size
        shape = (some, size.frames, height, width, 3)
        frames = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
        cached: list[np.ndarray] = []

        def image_side(_: int) -> None:
            cached[:] = list(scorer.image_embeddings_prepared(torch.from_numpy(frames)).numpy())

        images = measure(image_side, device, warmup=1, repeats=3)
        clips = clip_vectors([cached[i % some] for i in range(size.clips)])
        chunks: list[int] = []

        def text_side(_: int) -> None:
            found = scorer.caption_embeddings(texts)
            chunks[:] = [len(vectors) for vectors, _ in found]
            score_matrix(
                [vectors.numpy() for vectors, _ in found],
                [weights.numpy() for _, weights in found],
                clips,
            )

        mine = measure(text_side, device, warmup=1, repeats=3)
        audit = siglip_published(
            scorer.published_embeddings(texts[:2]).numpy(),
            cached[:2],
            scorer.logit_scale,
            scorer.logit_bias,
        )
        pixels = [
            scorer.transform.normalise(torch.from_numpy(clip).to(device)).cpu()
            for clip in frames[:2]
        ]
        tokenizer = scorer.tokenizer
        del scorer
        free(device)

        from transformers import SiglipModel

        model: Any = SiglipModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        scores: dict[int, float] = {}

        def theirs(i: int) -> None:
            scores[i % 2] = score_one(model, tokenizer, pixels[i % 2], texts[i % 2])

        published = measure(theirs, device, warmup=2, repeats=8 if size is FULL else 2)

    each, image = mine.seconds / size.clips, images.seconds / some
    result = Result()
    result.agreement["the published score, by either code"] = max(
        abs(float(audit[i]) - scores[i]) for i in (0, 1)
    )
    columns = ["a caption", "s", "published / this", "peak GiB"]
    table = Table(f"Scoring, {size.clips} captions", columns)
    table.rows = [
        [
            f"published: {size.frames} frames and the text, fp32, one caption a call",
            published.seconds,
            1.0,
            published.peak_gib,
        ],
        ["ours: frames cached", each, published.seconds / each, mine.peak_gib],
        [
            "ours: the first time, frames embedded as well",
            each + image,
            published.seconds / (each + image),
            images.peak_gib,
        ],
    ]
    table.notes = [
        f"Captions of {float(np.mean(chunks)):.3g} sentence chunks on average, all of which are "
        "scored against all clips; the published method reads the first 64 tokens of a caption "
        "and one clip. Left out on its side: reading and resizing the frames and loading the "
        "processor, which it did anew for each caption.",
    ]
    result.tables.append(table)
    result.parts = {
        "scoring/ours": each,
        "scoring/ours/image": image,
        "scoring/published": published.seconds,
    }
    return result
