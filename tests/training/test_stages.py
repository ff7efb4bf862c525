"""Both stages, from their input files to their output files, at micro size."""

import sys
import types

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from support.kept import checkpoint_facts

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.config import parse
from siglip_study.config.study import RuntimeConfig
from siglip_study.runs.run import Inputs, LoadedRun, use_device
from siglip_study.study import Study
from siglip_study.study.cells import Cell
from siglip_study.training import stages
from siglip_study.training.stages import run_stage1, run_stage2

RUNTIME = RuntimeConfig(device="cpu", eval_batch_clips=4)
SIZES = {"train": 6, "selection": 3, "report": 4}


@pytest.fixture
def world(tmp_path, micro_config, features, monkeypatch):
    """A manifest, stand-in features and a study; threads are left as they were."""
    asked = {split: [] for split in SIZES}

    class Store(type(features)):
        def batch(self, ids):
            asked[self.folder.name].extend(ids)
            return super().batch(ids)

    fake = types.ModuleType("siglip_study.features.store")
    fake.FeatureStore = Store
    monkeypatch.setitem(sys.modules, "siglip_study.features.store", fake)
    rows = [
        {
            "id": f"{split}{i}",
            "split": split,
            "captions": [f"빨간 공 {split} {i}", f"a red ball {i}"][: 1 + i % 2],
        }
        for split, n in SIZES.items()
        for i in range(n)
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "manifest.parquet")
    names = ("noise_features", "permuted_captions", "untrained_projector")
    study = Study(parse(micro_config(tmp_path, controls=dict.fromkeys(names, "linear"))))
    inputs = Inputs(tmp_path / "manifest.parquet", {s: tmp_path / s for s in SIZES})
    threads = torch.get_num_threads()
    yield types.SimpleNamespace(
        study=study, inputs=inputs, asked=asked, root=tmp_path, cell=study.tuning[0]
    )
    torch.set_num_threads(threads)


def stage1(world, cell: Cell, out="s1"):
    to = world.root / out
    run_stage1(cell.stage1_name, cell.run, world.inputs, to, world.root / "r1", RUNTIME, str)
    return to


def stage2(world, cell: Cell, parent, out="s2", runtime=RUNTIME):
    to, resume = world.root / out, world.root / f"r-{out}"
    run_stage2(cell, world.inputs, parent, to, resume, runtime, str, lambda loaded, model: None)
    return to


@pytest.fixture
def done(world):
    first = stage1(world, world.cell)
    return first, stage2(world, world.cell, first)


def test_both_stages_leave_what_their_rules_declare(world, done):
    first, second = done
    cell = world.cell
    assert checkpoint_facts(first / "checkpoint")["run"] == cell.run.stage1_keys()
    assert checkpoint_facts(second / "checkpoint")["run"] == cell.run.keys()
    for folder, stage, steps in ((first, 1, 6), (second, 2, 3)):
        table = pl.read_parquet(folder / "steps.parquet")
        assert table["stage"].to_list() == [stage] * steps
        assert {"step", "epoch", "loss", "lr_projector", "lr_lora", "grad_norm"} <= {*table.columns}
        assert {"target_tokens", "samples", "seconds", "gpu_gb"} <= {*table.columns}
        epochs = pl.read_parquet(folder / "epochs.parquet")
        assert {"train_loss", "val_loss", "quick_effective_captions", "is_best"} <= {
            *epochs.columns
        }
        assert epochs["quick_n"].to_list() == [2] * epochs.height
    facts = read_json(second / "cell.json", "cell/1")
    assert facts["cell"] == cell.name
    assert facts["projector_parameters"] == 12 * 32 + 32
    assert facts["tokens_per_video"] == 8
    # r · (in + out) of q, k, v, o and of gate, up, down; two layers.
    assert facts["lora_parameters"] == 2 * 2 * (64 + 48 + 48 + 64 + 80 + 80 + 80)
    assert facts["optimizer_steps"] == 3 and facts["samples_seen"] == 6
    # 2 layers of 32 × (32 + 16 + 16 + 32 + 3 × 48) weights, four times each at more than the 8
    # video positions; the head and the rest at most as much again for each of some 100 positions.
    weights = 2 * 32 * (32 + 16 + 16 + 32 + 3 * 48)
    assert 6 * 4 * weights * 8 < facts["flops"] < 6 * 4 * weights * 8 * 50
    first_facts = read_json(first / "stage.json", "stage/1")
    # Twice the clips, and no adapters.
    assert facts["flops"] < first_facts["flops"] < 2 * facts["flops"]
    assert facts["device"] == "cpu" and facts["gpu_s"] == 0
    # Whether a job succeeded is known to later jobs only: they give the resume points up.
    assert list((world.root / "r1").glob("step-*")) and list((world.root / "r-s2").glob("step-*"))


def test_report_clips_are_never_looked_at_in_training(world, done):
    assert set(world.asked["train"]) == {f"train{i}" for i in range(6)}
    assert world.asked["report"] == []


def test_calibration_sees_training_clips_alone(world, monkeypatch):
    seen = []
    real = stages.VisionLanguageModel.calibrate

    def spying(self, batch, match):
        seen.append({split: list(ids) for split, ids in world.asked.items()})
        return real(self, batch, match)

    monkeypatch.setattr(stages.VisionLanguageModel, "calibrate", spying)
    stage1(world, world.cell)
    assert seen == [{"train": [f"train{i}" for i in range(6)], "selection": [], "report": []}]


def test_a_repeated_stage_has_the_same_bits(world, done):
    again = stage2(world, world.cell, stage1(world, world.cell, "s1b"), "s2b")
    for name in ("projector.safetensors", "lora/adapter_model.safetensors"):
        one, two = (folder / "checkpoint" / name for folder in (done[1], again))
        assert one.read_bytes() == two.read_bytes()


def test_a_resume_point_of_an_older_dataset_is_not_continued(world, monkeypatch, killed):
    """Killed, a clip exchanged, started again: the result is that of the new data alone."""

    def dying(job, row):
        if row["epoch"] == 2:
            raise killed

    with monkeypatch.context() as patch:
        patch.setattr(stages.StageJob, "report", dying)
        with pytest.raises(killed):
            stage1(world, world.cell)
    assert list((world.root / "r1").glob("step-*"))
    table = pl.read_parquet(world.inputs.manifest)
    changed = table.with_columns(pl.col("id").str.replace("train5", "train9"))
    changed.write_parquet(world.inputs.manifest)
    resumed = stage1(world, world.cell)
    fresh = stage1(world, world.cell, "fresh")
    one, two = (f / "checkpoint" / "projector.safetensors" for f in (resumed, fresh))
    assert one.read_bytes() == two.read_bytes()


def loaded_run(world, cell):
    return LoadedRun(cell.run, world.inputs, use_device(RUNTIME))


def test_only_training_captions_are_permuted_and_only_for_that_control(world):
    controls = {cell.role: cell for cell in world.study.controls}
    plain, permuted = (loaded_run(world, c) for c in (world.cell, controls["control_permuted"]))
    true, spoiled = plain.clips("train").captions, permuted.clips("train").captions
    assert sorted(true) == sorted(spoiled)
    assert all(a != b for a, b in zip(true, spoiled, strict=True))
    for split in ("selection", "report"):
        assert plain.clips(split).captions == permuted.clips(split).captions


def test_noise_replaces_the_features_of_every_split(world):
    controls = {cell.role: cell for cell in world.study.controls}
    plain, noise = (loaded_run(world, c) for c in (world.cell, controls["control_noise"]))
    for split in SIZES:
        one, two = plain.clips(split), noise.clips(split)
        assert one.captions == two.captions and one.ids == two.ids
        assert not torch.equal(one.features.batch(one.ids), two.features.batch(two.ids))


def test_projectors_start_alike_for_a_seed_and_apart_for_another(world):
    loaded = loaded_run(world, world.cell)
    one, two = loaded.model().projector, loaded.model().projector
    other = loaded_run(world, world.study.reported([world.cell.name])[0]).model().projector
    assert torch.equal(one.proj.weight, two.proj.weight)
    assert not torch.equal(one.proj.weight, other.proj.weight)


def test_a_gpu_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match=r"runtime.device is cuda") as error:
        use_device(RuntimeConfig(device="cuda"))
    assert str(error.value).endswith(".")


# ---- The secondary control: adapters learn around a projector that stays as it was initialised.


@pytest.fixture
def untrained(world):
    [cell] = (c for c in world.study.controls if c.role == "control_untrained")
    return cell


def test_the_projector_stays_as_initialised_and_calibrated_while_adapters_learn(world, untrained):
    out = stage2(world, untrained, None)
    first = loaded_run(world, untrained).model()
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
    # As many steps as the trained cell of the same budget.
    assert told["optimizer_steps"] == 3
    steps = pl.read_parquet(out / "steps.parquet")
    assert steps["lr_projector"].to_list() == [0.0] * 3 and steps["lr_lora"].max() > 0


def test_recomputed_layers_learn_the_same(world, untrained):
    """No gradient enters through the prompt, which recomputation must not rely on."""
    recomputing = RUNTIME.model_copy(update={"checkpointing": "all"})
    folders = (
        stage2(world, untrained, None),
        stage2(world, untrained, None, "again", recomputing),
    )
    losses = [pl.read_parquet(folder / "steps.parquet")["loss"].to_list() for folder in folders]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
