"""Data-parallel training on two real GPUs, through NCCL; skipped where there are fewer."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")

# A stage at micro size that needs no files but its resume point.
STAGE = """
import os, signal, sys
from pathlib import Path
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from siglip_study.config.training import LoraConfig, StageConfig
from siglip_study.base.errors import StudyError
from siglip_study.models.llm import PromptLayout, add_lora
from siglip_study import projectors
from siglip_study.runs.clips import Clips
from siglip_study.training.loop import train_stage
from siglip_study.training.step import StagePlan
from siglip_study.training.resume import ResumePoint
from siglip_study.training.team import team
from siglip_study.models.vlm import VisionLanguageModel


class Made:
    def __init__(self, dies):
        self.left = 5 if dies else -1

    def batch(self, ids):
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        seeds = [torch.Generator().manual_seed(int(i)) for i in ids]
        made = [torch.randn((2, 4, 64), generator=generator) for generator in seeds]
        return torch.stack(made).bfloat16()


def clips(first, n, dies=False):
    captions = tuple((tuple(range(5, 20 + i % 7)) + (2,),) for i in range(n))
    return Clips(tuple(str(first + i) for i in range(n)), Made(dies), captions, 0)


def stage(order, accelerator):
    config = Qwen3Config(
        vocab_size=400, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    llm = Qwen3ForCausalLM(config).to(accelerator.device, torch.bfloat16).eval()
    projector = projectors.build("linear", projectors.FeatureShape(2, (2, 2), 64), 256)
    layout = PromptLayout((1, 3), (4,), (1, 3, 4), 2, 0)
    model = VisionLanguageModel(projector, llm.requires_grad_(False), layout)
    model = model.to(accelerator.device)
    torch.manual_seed(1)
    model.llm = add_lora(model.llm, LoraConfig(r=4, alpha=8, dropout=0.0))
    settings = StageConfig(epochs=2, learning_rate=1e-3, batch_size=4, gradient_accumulation=1)
    dies = order["dies"] and accelerator.process_index == 1
    position = train_stage(
        model, StagePlan(2, settings, 3, 4, 1e9), clips(0, 24, dies), clips(100, 6),
        ResumePoint(Path(order["resume"])), lambda _: {}, accelerator, lambda _: None,
    )
    return [row["loss"] for row in position.steps] + [row["val_loss"] for row in position.epochs]


if __name__ == "__main__":
    import json, logging
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    order = {"resume": sys.argv[2], "dies": len(sys.argv) > 3}
    try:
        with team(int(sys.argv[1]), "cuda", "micro_stage:stage", order) as accelerator:
            print(accelerator.device, flush=True)
            losses = stage(order, accelerator)
    except StudyError as error:
        print(f"siglip-study: {error}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(losses))
"""


@pytest.fixture
def train(tmp_path):
    def run(ranks, *more):
        (tmp_path / "micro_stage.py").write_text(STAGE)
        command = [sys.executable, str(tmp_path / "micro_stage.py"), str(ranks)]
        return subprocess.run(
            [*command, str(tmp_path / f"resume{ranks}"), *more],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_two_gpus_train_what_one_trains(train):
    one, two = train(1), train(2)
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    losses = [json.loads(done.stdout.splitlines()[-1]) for done in (one, two)]
    assert len(losses[0]) == 12 + 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)  # bf16
    assert losses[0][11] < losses[0][0]


def test_a_dead_rank_ends_the_job_soon(train):
    began = time.monotonic()
    died = train(2, "dies")
    assert died.returncode == 1
    last = died.stderr.strip().splitlines()[-1]
    assert last.startswith("siglip-study: rank 1 of 2 (process ") and "SIGKILL" in last
    assert time.monotonic() - began < 120
