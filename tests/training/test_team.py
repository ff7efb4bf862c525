"""Data-parallel training as real processes on the CPU: same result, and no rank left behind.

About 60 s on one core, nearly all of it imports.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from siglip_study.base.io import write_json

SIZES = {"train": 11, "selection": 3}

# argv: gpus, folder of results, and who dies at the end of which epoch of stage 1.
LIFE = """
import json, os, signal, sys
from pathlib import Path
from siglip_study.config import parse
from siglip_study.config.study import RuntimeConfig
from siglip_study.study import Study
from siglip_study.base.jobs import job
from siglip_study.training import stages
from siglip_study.runs.run import Inputs

gpus, out, event = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
world = Path({world!r})

def children():
    return Path(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read_text().split()

plain = stages._on_epoch
def on_epoch(*args):
    def report(row):
        (out / "children.json").write_text(json.dumps([int(child) for child in children()]))
        if row["epoch"] == 1 and event == "follower dies in epoch 1":
            os.kill(int(children()[0]), signal.SIGKILL)
        if row["epoch"] == 2 and event == "rank 0 dies in epoch 2":
            os.kill(os.getpid(), signal.SIGKILL)
        plain(*args)(row)
    return report
stages._on_epoch = on_epoch

def loaded(loaded, model):
    assert loaded.accelerator.num_processes == 1 and not children()
    (out / "loaded").touch()

out.mkdir(exist_ok=True)
with job(str(out / "job.log")):
    study = Study(parse(json.loads((world / "config.json").read_text())))
    cell = study.tuning[0]
    inputs = Inputs(world / "manifest.parquet", {{s: world / s for s in ("train", "selection")}})
    runtime = RuntimeConfig(device="cpu", gpus=gpus, eval_batch_clips=2, save_minutes=1e-9)
    stages.run_stage1(
        cell.stage1_name, cell.run, inputs, out / "s1", out / "r1", runtime, lambda: "job 1 of 2"
    )
    if event == "both stages":
        stages.run_stage2(
            cell, inputs, out / "s1", out / "s2", out / "r2", runtime, lambda: "job 2 of 2", loaded
        )
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_llm):
    """A manifest, feature stores and a config: all that processes share is files."""
    folder = tmp_path_factory.mktemp("world")
    rows = []
    for split, n in SIZES.items():
        ids = [f"{split}{i}" for i in range(n)]
        rows += [
            {"id": clip, "split": split, "captions": ["빨간 공 " * (1 + i % 4) + str(i)]}
            for i, clip in enumerate(ids)
        ]
        generator = torch.Generator().manual_seed(len(ids))
        features = torch.randn((n, 2, 4, 12), generator=generator).bfloat16()
        (folder / split).mkdir()
        save_file(
            {f"{i:07d}": features[i].clone() for i in range(n)},
            folder / split / "shard-00000.safetensors",
        )
        facts = {"dim": 12, "grid": [2, 2], "patches": 4, "frames": 2}
        index = {"facts": facts, "dtype": "bfloat16", "shape": [2, 4, 12], "shards": [ids]}
        write_json(folder / split / "index.json", index, "features/1")
    pl.DataFrame(rows).write_parquet(folder / "manifest.parquet")
    config = {
        "output_dir": str(folder),
        "data": {"root": "x"},
        "projectors": {"linear": {}},
        "llm": {
            "model": str(tiny_llm),
            "quantization": "none",
            "lora": {"r": 2, "dropout": 0.0},
        },
        "vision": {"frames": 2},
        "training": {"quick_clips": 2, "quick_tokens": 4, "max_target_tokens": 64},
        # Steps of 5, 5 and 1 clips: the last one leaves a rank without any.
        "stage1": {"epochs": 2, "batch_size": 5, "gradient_accumulation": 1},
        "stage2": {"batch_size": 1, "gradient_accumulation": 5},
        "grid": {"learning_rate": [1e-2], "epochs": [1]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def live(world, gpus, name, event=""):
    return subprocess.run(
        [sys.executable, "-c", LIFE.format(world=str(world)), str(gpus), str(world / name), event],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def ends(world):
    """Both stages by one process and by two."""
    for gpus in (1, 2):
        done = live(world, gpus, f"of{gpus}", "both stages")
        assert done.returncode == 0, done.stderr + (world / f"of{gpus}/job.log").read_text()
    return world / "of1", world / "of2"


def weights(stage: Path) -> dict[str, torch.Tensor]:
    found = load_file(stage / "checkpoint/projector.safetensors")
    adapters = stage / "checkpoint/lora/adapter_model.safetensors"
    return found | (load_file(adapters) if adapters.is_file() else {})


@pytest.mark.parametrize("stage", ["s1", "s2"])
def test_two_ranks_train_what_one_trains(ends, stage):
    one, two = (folder / stage for folder in ends)
    steps = [pl.read_parquet(folder / "steps.parquet") for folder in (one, two)]
    assert steps[0]["samples"].to_list()[:3] == [5, 5, 1]
    for column in ("samples", "target_tokens", "epoch", "lr_projector"):
        assert steps[0][column].to_list() == steps[1][column].to_list()
    for column in ("loss", "grad_norm"):
        assert steps[1][column].to_list() == pytest.approx(steps[0][column].to_list(), rel=1e-4)
    epochs = [pl.read_parquet(folder / "epochs.parquet") for folder in (one, two)]
    for column in ("train_loss", "val_loss"):
        assert epochs[1][column].to_list() == pytest.approx(epochs[0][column].to_list(), rel=1e-4)
    assert epochs[1]["quick_n"].to_list() == epochs[0]["quick_n"].to_list()
    expected, found = weights(one), weights(two)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        difference = (found[name] - tensor).norm() / tensor.norm()
        assert float(difference) < 1e-4, name


def test_captions_are_left_to_one_process(ends):
    assert all((folder / "loaded").exists() for folder in ends)


def test_whoever_is_killed_none_is_left_and_the_next_run_continues(world, ends):
    died = live(world, 2, "killed", "follower dies in epoch 1")
    assert died.returncode == 1
    last = died.stderr.strip().splitlines()[-1]
    assert last.startswith("siglip-study: rank 1 of 2 (process ") and "SIGKILL" in last, died.stderr
    assert "Traceback" not in died.stderr and not (world / "killed/s1").exists()

    died = live(world, 2, "killed", "rank 0 dies in epoch 2")
    assert died.returncode == -signal.SIGKILL
    assert "continues at optimizer step" in died.stderr
    [follower] = json.loads((world / "killed/children.json").read_text())
    try:
        handle = os.pidfd_open(follower)
        assert select.select([handle], [], [], 20)[0], "a rank outlived rank 0"
        os.close(handle)
    except ProcessLookupError:
        pass  # gone already

    assert live(world, 2, "killed").returncode == 0
    same(world / "killed/s1", ends[1] / "s1")


def same(one: Path, two: Path) -> None:
    """Bit by bit, as on one process."""
    expected = weights(two)
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, expected[name]), name
    losses = [pl.read_parquet(folder / "steps.parquet")["loss"].to_list() for folder in (one, two)]
    assert losses[0] == losses[1]


TEAM = """
import logging, os, sys, threading
from siglip_study.base.errors import StudyError
from siglip_study.training import team
sys.path.insert(0, {folder!r})
logging.basicConfig(level=logging.INFO, format="%(message)s")
team._GRACE_S = 0.5
try:
    with team.team(2, "cpu", "others:" + sys.argv[1], {{"number": 7}}) as accelerator:
        {body}
except StudyError as error:
    print(error)
    sys.exit(3)
"""
OTHERS = """
import torch
from siglip_study.base.errors import StudyError
from siglip_study.training.team import require_same_weights

def mistaken(order, accelerator):
    raise StudyError(f"order {order['number']}: found a mistake.")

def broken(order, accelerator):
    raise ZeroDivisionError("a defect")

def drifted(order, accelerator):
    require_same_weights({"w": torch.nn.Parameter(torch.ones(2))}, 4, accelerator)
"""


def with_others(tmp_path, target, body):
    (tmp_path / "others.py").write_text(OTHERS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-c", TEAM.format(folder=str(tmp_path), body=body), target],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_mistake_that_another_rank_finds_is_the_sentence(tmp_path):
    done = with_others(tmp_path, "mistaken", "accelerator.wait_for_everyone()")
    assert (done.returncode, done.stdout) == (3, "order 7: found a mistake.\n"), done.stderr


def test_rank_0_is_ended_where_no_exception_reaches_it(tmp_path):
    done = with_others(tmp_path, "broken", "threading.Event().wait()")
    assert done.returncode == 1
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("siglip-study: rank 1 of 2 (process ")
    assert "ended with exit code 1, its last words: 'ZeroDivisionError: a defect'" in sentence


def test_ranks_with_other_weights_are_found(tmp_path):
    body = (
        "import torch; from siglip_study.training.team import require_same_weights; "
        "require_same_weights({'w': torch.nn.Parameter(torch.zeros(2))}, 4, accelerator)"
    )
    done = with_others(tmp_path, "drifted", body)
    assert done.returncode == 3 and "the weights of rank 1 differ" in done.stdout, done.stderr
