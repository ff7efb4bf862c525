"""A trained-looking run of tiny models of random weights, in the results of a finished study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from siglip_study.base.io import write_json
from siglip_study.config import parse, plain_config
from siglip_study.config.training import LlmConfig, TrainingConfig, VisionConfig
from siglip_study.data.summary import ManifestSummary, write_summary
from siglip_study.study.cells import RunSpec
from siglip_study.study.paths import Paths
from support.tiny_models import CLIP_IMAGES, VISION_SIZES, stir_adapters

#: Of ``cell.json``, beside the run itself.
CELL = {
    "cell": "linear_a7daac0c",
    "role": "report",
    "seed": 1,
    "projector_parameters": 37056,
    "lora_parameters": 18432,
    "tokens_per_video": 64,
    "versions": {"siglip-study": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
    "git_commit": "c0ffee",
}
LINE = {
    "projector": "linear",
    "ranked": True,
    "rank_low": 1,
    "rank_high": 2,
    "margin": 4.37,
    "low": 4.13,
    "high": 4.60,
    "of_human": 0.96,
    "distinct": 0.98,
    "tokens": 64,
}
#: What a card takes of ``report.json``.
TOLD = {
    "context": {"en": "61 held-out clips", "ko": "평가 영상 61개"},
    "headline": {"en": "linear leads.", "ko": "linear가 앞섭니다."},
    "advice": [{"en": "Avoid mlp_2l.", "ko": "피해야 할 것: mlp_2l."}],
    "checks": [{"good": False, "text": {"en": "One seed each", "ko": "시드 하나"}}],
    "lines": [LINE],
    "answer": {"refusal": None},
    "config": {"data": {"language": "ko"}},
}


def write_tower(folder: Path) -> Path:
    """A CLIP tower as a folder of transformers."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(**VISION_SIZES)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CLIP_IMAGES))
    return folder


def write_micro_run(root: Path, llm: LlmConfig) -> Path:
    """A run of tower and ``llm`` under ``root``; its folder, which can be exported.

    Raises:
        StudyError: as the parts do.
    """
    import torch

    from siglip_study.features.towers import VisionEncoder
    from siglip_study.models.llm import add_lora, load_tokenizer, prompt_layout
    from siglip_study.runs.run import first_model, save_checkpoint

    vision = VisionConfig(model=str(write_tower(root / "tower")), frames=2)
    training = TrainingConfig(max_target_tokens=12)
    spec = RunSpec(projector="linear", vision=vision, llm=llm, training=training, seed=1)
    encoder = VisionEncoder.from_config(vision, torch.device("cpu"))
    layout = prompt_layout(load_tokenizer(llm), llm)
    model = first_model(spec, encoder.facts, layout, torch.device("cpu"))
    frames = np.random.default_rng(0).integers(0, 256, (4, 2, 32, 32, 3), dtype=np.uint8)
    model.calibrate(encoder.encode(frames), match_embeddings=True)
    model.llm = add_lora(model.llm, llm.lora)
    stir_adapters(model.llm)

    paths = Paths(root / "results")
    run = paths.run(CELL["cell"])
    save_checkpoint(run / "checkpoint", model, {})
    write_json(run / "cell.json", CELL | {"run": spec.model_dump(mode="json")}, "cell/1")
    config = plain_config(parse({"data": {"root": "clips"}, "projectors": {"linear": {}}}))
    write_json(paths.report_answer, TOLD | {"config": config}, "report/1")
    write_summary(paths.manifest_summary, ManifestSummary({"train": 200}, {}, {}))
    return run
