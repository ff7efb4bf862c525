"""Both stages and the captions, from their input files to their output files, at micro size."""

import json
import sys
import types

import polars as pl
import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.captioning.cell import (
    caption_from_checkpoint,
    caption_while_loaded,
)
from siglip_study.captioning.losses import condition_losses
from siglip_study.config.study import CaptionConfig, RuntimeConfig
from siglip_study.runs.run import Inputs, LoadedRun, checkpoint_facts, use_device
from siglip_study.study.cells import Cell
from siglip_study.training import stages
from siglip_study.training.stages import run_stage1, run_stage2

RUNTIME = RuntimeConfig(device="cpu", eval_batch_clips=4)
SETTINGS = CaptionConfig(max_new_tokens=6, batch_size=4, shuffles=2)
SIZES = {"train": 6, "selection": 3, "report": 4}


@pytest.fixture
def world(tmp_path, micro_study, features, monkeypatch):
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
    study = micro_study(controls={"noise_features": "linear", "permuted_captions": "linear"})
    inputs = Inputs(tmp_path / "manifest.parquet", {s: tmp_path / s for s in SIZES})
    threads = torch.get_num_threads()
    yield types.SimpleNamespace(
        study=study, inputs=inputs, asked=asked, root=tmp_path, cell=study.tuning[0]
    )
    torch.set_num_threads(threads)


def stage1(world, cell: Cell, out="s1"):
    run_stage1(
        cell.stage1_name,
        cell.run,
        world.inputs,
        world.root / out,
        world.root / "r1",
        RUNTIME,
        lambda: "job 1 of 3",
    )
    return world.root / out


def stage2(world, cell: Cell, parent, out="s2", handover=None):
    def loaded(loaded, model):
        if handover is not None:
            caption_while_loaded(loaded, model, cell, SETTINGS, RUNTIME, handover)

    run_stage2(
        cell,
        world.inputs,
        parent,
        world.root / out,
        world.root / "r2",
        RUNTIME,
        lambda: "job 2 of 3",
        loaded,
    )
    return world.root / out


@pytest.fixture
def done(world):
    first = stage1(world, world.cell)
    second = stage2(world, world.cell, first, handover=world.root / "handover")
    return first, second


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
    facts = json.loads((second / "cell.json").read_text())
    assert facts["schema"] == "cell/1" and facts["cell"] == cell.name
    assert facts["projector_parameters"] == 12 * 32 + 32
    assert facts["tokens_per_video"] == 8
    # r · (in + out) of q, k, v, o and of gate, up, down; two layers.
    assert facts["lora_parameters"] == 2 * 2 * (64 + 48 + 48 + 64 + 80 + 80 + 80)
    assert facts["optimizer_steps"] == 3 and facts["samples_seen"] == 6
    # 2 layers of 32 × (32 + 16 + 16 + 32 + 3 × 48) weights, four times each at more than the 8
    # video positions; the head and the rest at most as much again for each of some 100 positions.
    weights = 2 * 32 * (32 + 16 + 16 + 32 + 3 * 48)
    assert 6 * 4 * weights * 8 < facts["flops"] < 6 * 4 * weights * 8 * 50
    first_facts = json.loads((first / "stage.json").read_text())
    # Twice the clips, and no adapters.
    assert facts["flops"] < first_facts["flops"] < 2 * facts["flops"]
    assert facts["device"] == "cpu" and facts["gpu_s"] == 0
    # Whether a job succeeded is known to later jobs only: they give the resume points up.
    assert list((world.root / "r1").glob("step-*")) and list((world.root / "r2").glob("step-*"))


def test_captions_are_the_same_right_after_training_and_from_the_checkpoint(world, done):
    out = world.root / "late"
    caption_from_checkpoint(
        world.cell, world.inputs, done[1] / "checkpoint", SETTINGS, RUNTIME, out
    )
    late, early = (
        json.loads((folder / "captions.json").read_text())
        for folder in (out, world.root / "handover")
    )
    assert late["records"] == early["records"]
    assert [r["id"] for r in late["records"]] == ["selection0", "selection1", "selection2"]
    tables = [pl.read_parquet(f / "losses.parquet") for f in (out, world.root / "handover")]
    assert tables[0].equals(tables[1])


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


def test_a_resume_point_of_an_older_dataset_is_not_continued(world, monkeypatch):
    """Killed, a clip exchanged, started again: the result is that of the new data alone."""

    class Killed(BaseException):
        pass

    def dying(row):
        raise Killed

    plain = stages._on_epoch
    with monkeypatch.context() as patch:
        patch.setattr(
            stages, "_on_epoch", lambda *_: lambda row: dying(row) if row["epoch"] == 2 else None
        )
        with pytest.raises(Killed):
            stage1(world, world.cell)
    assert list((world.root / "r1").glob("step-*"))
    table = pl.read_parquet(world.inputs.manifest)
    changed = table.with_columns(pl.col("id").str.replace("train5", "train9"))
    changed.write_parquet(world.inputs.manifest)
    assert stages._on_epoch is plain
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


def test_conditions_of_a_model_that_does_not_look_are_equal(world):
    blind = next(c for c in world.study.controls if c.role == "control_blind")
    loaded = loaded_run(world, blind)
    clips = loaded.clips("report")
    table = condition_losses(loaded.model(), clips, "report", 3, 4, loaded.accelerator)
    by = {
        c: table.filter(condition=c)["loss"].to_list() for c in ("matched", "shuffled", "reversed")
    }
    assert by["matched"] == by["reversed"] == pytest.approx(by["shuffled"], rel=1e-12)
    assert table.filter(condition="matched")["n_tokens"].to_list() == [
        len(options[0]) for options in clips.captions
    ]


def test_conditions_are_the_losses_they_claim_to_be(world):
    loaded = loaded_run(world, world.cell)
    model, clips = loaded.model().eval(), loaded.clips("report")
    model.calibrate(clips.features.batch(clips.ids), match_embeddings=True)
    table = condition_losses(model, clips, "report", 2, 4, loaded.accelerator)

    def mean_loss(i, batch):
        with torch.no_grad():
            sums, counts = model.caption_loss(batch, [clips.captions[i][0]])
        return float(sums / counts)

    own = [clips.features.batch([clip]) for clip in clips.ids]
    matched = [mean_loss(i, batch) for i, batch in enumerate(own)]
    backwards = [mean_loss(i, batch[:, [1, 0]]) for i, batch in enumerate(own)]
    assert table.filter(condition="matched")["loss"].to_list() == pytest.approx(matched, rel=1e-4)
    assert table.filter(condition="reversed")["loss"].to_list() == pytest.approx(
        backwards, rel=1e-4
    )
    shuffled = table.filter(condition="shuffled")["loss"].to_list()
    for i, value in enumerate(shuffled):
        others = [mean_loss(i, own[j]) for j in range(4) if j != i]
        pairs = [(a + b) / 2 for a in others for b in others]
        assert min(abs(value - pair) for pair in pairs) < 1e-3


def test_a_gpu_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match=r"runtime.device is cuda") as error:
        use_device(RuntimeConfig(device="cuda"))
    assert str(error.value).endswith(".")
