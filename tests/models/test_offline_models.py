"""What ``models fetch`` leaves in the cache is what a job without a network loads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from support.tiny_models import CLIP_IMAGES, SIGLIP_IMAGES, VISION_SIZES
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
JOB = """
import sys
import numpy as np, torch
from siglip_study.config.training import LlmConfig
from siglip_study.base.errors import StudyError
from siglip_study.features.towers import VisionEncoder
from siglip_study.features.scorer import Scorer
from siglip_study.models.llm import load_llm, load_tokenizer
from siglip_study.models.fetch import Model, state

commit = sys.argv[1]
frames = np.zeros((1, 1, 32, 32, 3), np.uint8)
for key, name, talks in (("vision", "tower", 0), ("llm", "lm", 1), ("scorer", "scorer", 1)):
    found = Model(f"{key}.model", f"acme/{name}", commit, needs_tokenizer=bool(talks))
    assert state(found)[0] == "cached", found
config = LlmConfig(model="acme/lm", revision=commit, quantization="none")
assert VisionEncoder("acme/tower", commit).encode(frames).shape == (1, 1, 16, 32)
assert Scorer("acme/scorer", commit).text_embeddings(["a"]).shape == (1, 32)
assert load_tokenizer(config).chat_template
load_llm(config, torch.device("cpu"))
# The sizes of this one are packaged, but weights were asked for.
try:
    load_llm(LlmConfig(model="Qwen/Qwen3-0.6B", quantization="none"), torch.device("cpu"))
except StudyError as error:
    assert "python -m siglip_study.models fetch" in str(error), error
else:
    raise AssertionError("no weights, no error")
"""


def test_a_fetched_study_loads_offline_by_its_pins(tiny_llm, tmp_path):
    torch.manual_seed(0)
    text = {k: v for k, v in VISION_SIZES.items() if k not in ("image_size", "patch_size")}
    text |= {"vocab_size": 400, "max_position_embeddings": 16}

    def snapshot(name: str) -> Path:
        return tmp_path / "hub" / f"models--acme--{name}" / "snapshots" / COMMIT

    CLIPVisionModel(CLIPVisionConfig(**VISION_SIZES)).save_pretrained(snapshot("tower"))
    scorer = SiglipModel(SiglipConfig(vision_config=VISION_SIZES, text_config=text))
    scorer.save_pretrained(snapshot("scorer"))
    PreTrainedTokenizerFast.from_pretrained(tiny_llm).save_pretrained(snapshot("scorer"))
    for name, images in (("tower", CLIP_IMAGES), ("scorer", SIGLIP_IMAGES)):
        (snapshot(name) / "preprocessor_config.json").write_text(json.dumps(images))
    shutil.copytree(tiny_llm, snapshot("lm"))
    done = subprocess.run(
        [sys.executable, "-c", JOB, COMMIT],
        env={
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "1",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(sys.path),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
