"""What ``models fetch`` brings from a hub is what a job without a network loads."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from support.micro_run import write_tower
from support.tiny_models import SIGLIP_IMAGES, VISION_SIZES
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

JOB = """
import sys
import numpy as np, torch
from siglip_study.config.training import LlmConfig
from siglip_study.base.errors import StudyError
from siglip_study.features.towers import VisionEncoder
from siglip_study.features.scorer import Scorer
from siglip_study.models.llm import load_llm, load_tokenizer

tower, lm, scorer = sys.argv[1:]
frames = np.zeros((1, 1, 32, 32, 3), np.uint8)
config = LlmConfig(model="acme/lm", revision=lm, quantization="none")
assert VisionEncoder("acme/tower", tower).encode(frames).shape == (1, 1, 16, 32)
assert Scorer("acme/scorer", scorer).text_embeddings(["a"]).shape == (1, 32)
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


def run(*command, **changes):
    """Run Python as a user's shell would; what it printed."""
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | path | changes, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def commits(fake_hub, tiny_llm, tmp_path):
    """Models on a hub, with a pickle and code beside each: name → commit."""
    torch.manual_seed(0)
    text = {k: v for k, v in VISION_SIZES.items() if k not in ("image_size", "patch_size")}
    text |= {"vocab_size": 400, "max_position_embeddings": 16}
    scorer = tmp_path / "scorer"
    SiglipModel(SiglipConfig(vision_config=VISION_SIZES, text_config=text)).save_pretrained(scorer)
    PreTrainedTokenizerFast.from_pretrained(tiny_llm).save_pretrained(scorer)
    (scorer / "preprocessor_config.json").write_text(json.dumps(SIGLIP_IMAGES))
    found = {}
    for name, folder in (
        ("tower", write_tower(tmp_path / "tower")),
        ("lm", tiny_llm),
        ("scorer", scorer),
    ):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        evil = {"pytorch_model.bin": b"pickle", "modeling.py": b"raise SystemExit"}
        found[name] = fake_hub.commit(f"acme/{name}", files | evil)
    return found


def test_a_study_fetched_from_a_hub_loads_offline_by_its_pins(fake_hub, commits, tmp_path):
    keys = {"vision": "tower", "llm": "lm", "scorer": "scorer"}
    config = {
        key: {"model": f"acme/{name}", "revision": commits[name]} for key, name in keys.items()
    }
    config |= {"data": {"root": "clips"}, "projectors": {"linear": {}}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    said = run("-m", "siglip_study.models", "fetch", str(path)).splitlines()
    assert [line.split(" @")[0] for line in said] == [f"{k}.model: acme/{keys[k]}" for k in keys]
    read = {asked.rpartition("/")[2] for asked in fake_hub.asked if "/resolve/" in asked}
    assert "model.safetensors" in read and not read & {"pytorch_model.bin", "modeling.py"}

    fake_hub.asked.clear()
    offline = {"HF_HUB_OFFLINE": "1"}
    assert "absent" not in run("-m", "siglip_study.models", "list", str(path), **offline)
    run("-c", JOB, *commits.values(), **offline)
    assert fake_hub.asked == []
