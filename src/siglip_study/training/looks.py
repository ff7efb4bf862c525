"""What is looked at while a stage trains: a few captions, and the figures of a diagnosis."""

from __future__ import annotations

from typing import Any

from siglip_study.captioning.generate import generate_captions
from siglip_study.metrics.diversity import clusters, distinct_ratio, effective_captions
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips
from siglip_study.runs.run import Bench
from siglip_study.training.diagnosis import diagnose
from siglip_study.training.loop import QuickLook


def quick_look(bench: Bench, clips: Clips) -> QuickLook:
    """Caption a few selection clips and measure how diverse the captions are."""
    training = bench.run.training
    ids = clips.ids[: training.quick_clips]

    def look(model: VisionLanguageModel) -> dict[str, Any]:
        if not ids:
            return {
                "quick_n": 0,
                "quick_effective_captions": None,
                "quick_distinct_ratio": None,
            }
        captions = generate_captions(
            model,
            bench.tokenizer,
            ids,
            clips.features.batch,
            max_new_tokens=training.quick_tokens,
            batch_size=len(ids),
            memory_gb=bench.memory_gb,
        )
        texts = [caption.text for caption in captions]
        return {
            "quick_n": len(texts),
            "quick_effective_captions": float(effective_captions(clusters(texts))),
            "quick_distinct_ratio": float(distinct_ratio(texts)),
        }

    return look


def diagnosis(bench: Bench, clips: Clips) -> QuickLook:
    """Measure what the projector makes of a few selection clips, always the same ones."""
    ids = clips.ids[: bench.run.training.diagnosis_clips]
    return lambda model: diagnose(model, clips.features.batch, ids, bench.accelerator)
