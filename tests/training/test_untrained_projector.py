"""The secondary control: adapters learn around a projector that stays as it was initialised."""

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from support.features import write_features

from siglip_study.base.io import read_json
from siglip_study.config.study import RuntimeConfig
from siglip_study.runs.run import Inputs, LoadedRun, use_device
from siglip_study.training.stages import run_stage2


@pytest.fixture
def world(tmp_path, micro_study, features):
    torch.set_num_threads(1)
    sizes = {"train": 6, "selection": 3}
    rows = [
        {"id": f"{split}{i}", "split": split, "captions": [f"빨간 공 {split} {i}"]}
        for split, n in sizes.items()
        for i in range(n)
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "manifest.parquet")
    for split, n in sizes.items():
        ids = [f"{split}{i}" for i in range(n)]
        work = tmp_path / f"work-{split}"
        write_features(tmp_path / split, work, ids, features.batch, 4, features.facts)
    study = micro_study(
        grid={"learning_rate": [1e-2], "epochs": [2]}, controls={"untrained_projector": "linear"}
    )
    (cell,) = [c for c in study.controls if c.role == "control_untrained"]
    inputs = Inputs(tmp_path / "manifest.parquet", {s: tmp_path / s for s in sizes})
    return cell, inputs, tmp_path


def train(world, checkpointing="auto", out="out"):
    cell, inputs, root = world
    runtime = RuntimeConfig(device="cpu", eval_batch_clips=4, checkpointing=checkpointing)
    run_stage2(
        cell, inputs, None, root / out, root / f"resume-{out}", runtime, lambda: "", lambda *_: None
    )
    return root / out


def test_the_projector_stays_as_initialised_and_calibrated_while_adapters_learn(world):
    cell, inputs, _ = world
    out = train(world)
    first = LoadedRun(cell.run, inputs, use_device(RuntimeConfig(device="cpu"))).model()
    kept = load_file(out / "checkpoint" / "projector.safetensors")
    for name, parameter in first.projector.named_parameters():
        assert torch.equal(kept[f"projector.{name}"], parameter), name
    # Calibrated without a first stage: the scales are no longer 1.
    assert kept["feature_scale"] != 1 and kept["output_scale"] != 1
    adapters = load_file(out / "checkpoint" / "lora" / "adapter_model.safetensors")
    learned = [tensor for name, tensor in adapters.items() if "lora_B" in name]
    assert learned and all(tensor.abs().sum() > 0 for tensor in learned)
    told = read_json(out / "cell.json", "cell/1")
    assert told["stage1_cell"] is None and told["role"] == "control_untrained"
    # As many steps as the trained cell of the same budget: 2 epochs of 3 steps.
    assert told["optimizer_steps"] == 6
    steps = pl.read_parquet(out / "steps.parquet")
    assert steps["lr_projector"].to_list() == [0.0] * 6 and steps["lr_lora"].max() > 0


def test_recomputed_layers_learn_the_same(world):
    """No gradient enters through the prompt, which recomputation must not rely on."""
    plain, recomputed = train(world), train(world, "all", "again")
    losses = [pl.read_parquet(o / "steps.parquet")["loss"].to_list() for o in (plain, recomputed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
