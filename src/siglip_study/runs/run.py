"""A run on a device: what both stages and captioning build their models and clips from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from siglip_study.captioning import generate_captions
from siglip_study.config.study import RuntimeConfig
from siglip_study.metrics.diversity import clusters, distinct_ratio, effective_captions
from siglip_study.models.devices import limit_memory, pick_device
from siglip_study.models.llm import load_llm, load_tokenizer, prompt_layout
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.projectors.registry import build_projector
from siglip_study.runs.checkpoint import load_adapters
from siglip_study.runs.clips import Clips, NoiseFeatures, derangement, tokenize_captions
from siglip_study.study.cells import RunSpec
from siglip_study.training.diagnosis import diagnose
from siglip_study.training.loop import QuickLook
from siglip_study.training.schedule import derived_seed
from siglip_study.training.team import single

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Files a run reads: the manifest and the feature folder of each split it needs."""

    manifest: Path
    features: dict[str, Path]


def use_device(runtime: RuntimeConfig) -> Accelerator:
    """The accelerator of a job of one process."""
    return single(pick_device(runtime.device))


class Bench:
    """A run on a device: tokenizer, prompt layout and clips, from which models are built."""

    def __init__(
        self,
        run: RunSpec,
        inputs: Inputs,
        accelerator: Accelerator,
        memory_gb: float | None = None,
    ) -> None:
        from siglip_study.features.store import FeatureStore

        limit_memory(accelerator.device, memory_gb)
        self.memory_gb = memory_gb
        self.run = run
        self.inputs = inputs
        self.accelerator = accelerator
        self.tokenizer = load_tokenizer(run.llm)
        self.layout = prompt_layout(self.tokenizer, run.llm)
        self.stores = {split: FeatureStore(path) for split, path in inputs.features.items()}

    def model(self, adapters: Path | None = None) -> VisionLanguageModel:
        """Frozen LLM and a projector initialised from the run's seed (not calibrated yet).

        Args:
            adapters: a checkpoint whose adapters are put on the LLM, merged where that is exact.
        """
        run = self.run
        llm = load_llm(run.llm, self.accelerator.device)
        width = llm.config.get_text_config().hidden_size  # type: ignore[operator, union-attr]
        if adapters is not None:
            llm = load_adapters(adapters, llm, run.llm)
        facts = next(iter(self.stores.values())).facts
        torch.manual_seed(derived_seed("projector", run.seed))
        projector = build_projector(
            run.projector,
            facts["dim"],
            width,
            tuple(facts["grid"]),
            run.vision.frames,
            **run.options,
        )
        return VisionLanguageModel(projector, llm, self.layout).to(self.accelerator.device)

    def clips(self, split: str) -> Clips:
        """Clips of a split with their targets; spoiled where the run says so."""
        import polars as pl

        rows = pl.read_parquet(self.inputs.manifest).filter(pl.col("split") == split)
        ids, captions = rows["id"].to_list(), rows["captions"].to_list()
        store = self.stores[split]
        if self.run.sabotage == "permuted_captions" and split == "train":
            captions = [captions[i] for i in derangement(len(ids), "captions", self.run.seed)]
        tokens, cut = tokenize_captions(
            self.tokenizer, captions, self.layout.eos, self.run.training.max_target_tokens
        )
        if cut:
            limit = self.run.training.max_target_tokens
            log.info("%s: %d captions cut to %d tokens", split, cut, limit)
        features = NoiseFeatures(store) if self.run.sabotage == "noise_features" else store
        return Clips(tuple(ids), features, tokens, cut)

    def quick_look(self, clips: Clips) -> QuickLook:
        """Caption a few selection clips and measure how diverse the captions are."""
        training = self.run.training
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
                self.tokenizer,
                ids,
                clips.features.batch,
                max_new_tokens=training.quick_tokens,
                batch_size=len(ids),
                memory_gb=self.memory_gb,
            )
            texts = [caption.text for caption in captions]
            return {
                "quick_n": len(texts),
                "quick_effective_captions": float(effective_captions(clusters(texts))),
                "quick_distinct_ratio": float(distinct_ratio(texts)),
            }

        return look

    def diagnosis(self, clips: Clips) -> QuickLook:
        """Measure what the projector makes of a few selection clips, always the same ones."""
        ids = clips.ids[: self.run.training.diagnosis_clips]
        return lambda model: diagnose(model, clips.features.batch, ids, self.accelerator)

    def log_masked_sample(self, clips: Clips, video_tokens: int) -> None:
        """Show what is read and what is learned, so that a wrong mask is seen before step 1."""
        decode = self.tokenizer.decode
        target = clips.captions[0][0]
        ends = "ends in EOS" if target[-1] == self.layout.eos else "cut: no EOS"
        log.debug(
            "sample %s\n  read, no loss: %s[video × %d]%s\n  learned (%d tokens, %s): %s",
            clips.ids[0],
            decode(self.layout.before),
            video_tokens,
            decode(self.layout.after),
            len(target),
            ends,
            decode(target),
        )
