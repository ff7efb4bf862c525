"""Both stages, from their input files to their output files, at micro size."""

import shutil
import subprocess
import sys
import types

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.features import write_features, write_inputs
from support.kept import checkpoint_facts

from siglip_study.base import kept
from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config import parse
from siglip_study.config.study import RuntimeConfig
from siglip_study.features.store import FeatureStore
from siglip_study.models.devices import limit_memory
from siglip_study.runs.run import LoadedRun, use_device
from siglip_study.study import Study
from siglip_study.training import stages
from siglip_study.training.stages import StageJob, run_stage

RUNTIME = RuntimeConfig(device="cpu", eval_batch_clips=4)
TRAIN = {f"train{i}" for i in range(6)}


@pytest.fixture
def world(tmp_path, micro_config, features, monkeypatch):
    """Input files, a study, and ids of the clips that were read; threads are left as they were."""
    read = []
    batch = FeatureStore.batch
    monkeypatch.setattr(FeatureStore, "batch", lambda s, ids: read.extend(ids) or batch(s, ids))
    inputs = write_inputs(
        tmp_path,
        features,
        {"train": 6, "selection": 3, "report": 4},
        lambda split, i: [f"빨간 공 {split} {i}", f"a red ball {i}"][: 1 + i % 2],
    )
    names = ("noise_features", "permuted_captions", "untrained_projector")
    raw = micro_config(tmp_path, controls=dict.fromkeys(names, "linear"))
    raw["llm"]["model"] = str(shutil.copytree(raw["llm"]["model"], tmp_path / "llm"))
    study = Study(parse(raw))
    cells = {cell.role: cell for cell in [*study.tuning, *study.controls]}
    threads = torch.get_num_threads()
    yield types.SimpleNamespace(
        study=study, inputs=inputs, read=read, root=tmp_path, cells=cells, cell=cells["tuning"]
    )
    torch.set_num_threads(threads)


def stage(number, world, cell, out, parent=None, runtime=RUNTIME):
    to, resume = world.root / out, world.root / f"r-{out}"
    run_stage(StageJob(number, cell, world.inputs, to, resume, runtime, str, parent))
    return to


@pytest.fixture
def done(world):
    first = stage(1, world, world.cell, "s1")
    return first, stage(2, world, world.cell, "s2", first)


def test_both_stages_leave_what_their_rules_declare(world, done):
    cell = world.cell
    keys = cell.run.stage1_keys(), cell.run.keys()
    for number, (folder, steps) in enumerate(zip(done, (6, 3), strict=True), start=1):
        assert checkpoint_facts(folder / "checkpoint")["run"] == keys[number - 1]
        table = pl.read_parquet(folder / "steps.parquet")
        assert table["stage"].to_list() == [number] * steps
        assert {"loss", "lr_lora", "grad_norm", "seconds", "gpu_gb"} <= {*table.columns}
        epochs = pl.read_parquet(folder / "epochs.parquet")
        assert {"val_loss", "quick_effective_captions", "is_best"} <= {*epochs.columns}
        assert epochs["quick_n"].to_list() == [2] * epochs.height
        # Of the weights that the stage ends with.
        assert epochs["diag_frame_cost"].null_count() == epochs.height - 1
        # Whether a job succeeded is known to later jobs only: they give the resume points up.
        assert list((world.root / f"r-s{number}").glob("step-*"))


def test_what_is_said_of_a_cell(world, done):
    facts = read_json(done[1] / "cell.json", "cell/1")
    assert facts["cell"] == world.cell.name
    assert facts["projector_parameters"] == 12 * 32 + 32
    assert facts["tokens_per_video"] == 8
    # r · (in + out) of q, k, v, o and of gate, up, down; two layers.
    assert facts["lora_parameters"] == 2 * 2 * (64 + 48 + 48 + 64 + 80 + 80 + 80)
    assert facts["optimizer_steps"] == 3 and facts["samples_seen"] == 6
    assert facts["device"] == "cpu" and facts["gpu_s"] == 0
    # 2 layers of 32 × (32 + 16 + 16 + 32 + 3 × 48) weights, four times each at more than the 8
    # video positions; the head and the rest at most as much again for each of some 100 positions.
    weights = 2 * 32 * (32 + 16 + 16 + 32 + 3 * 48)
    assert 6 * 4 * weights * 8 < facts["flops"] < 6 * 4 * weights * 8 * 50
    # Twice the clips, and no adapters.
    first = read_json(done[0] / "stage.json", "stage/1")
    assert facts["flops"] < first["flops"] < 2 * facts["flops"]


def test_report_clips_are_never_looked_at_in_training(world, done):
    assert set(world.read) == TRAIN | {f"selection{i}" for i in range(3)}


def test_calibration_sees_training_clips_alone(world, monkeypatch):
    seen = []
    calibrate = stages.VisionLanguageModel.calibrate

    def spying(*given):
        seen.append(set(world.read))
        return calibrate(*given)

    monkeypatch.setattr(stages.VisionLanguageModel, "calibrate", spying)
    stage(1, world, world.cell, "s1")
    assert seen == [TRAIN]


def test_a_repeated_stage_has_the_same_bits(world, done):
    again = stage(2, world, world.cell, "s2b", stage(1, world, world.cell, "s1b"))
    for name in ("projector.safetensors", "lora/adapter_model.safetensors"):
        one, two = (folder / "checkpoint" / name for folder in (done[1], again))
        assert one.read_bytes() == two.read_bytes()


def test_a_stage_after_another_in_a_kept_process_has_the_bits_of_one_alone(
    world, done, monkeypatch
):
    """The job before has merged its adapters into the model, as captioning does."""
    ends = []
    monkeypatch.setattr(kept, "is_kept", lambda: True)
    monkeypatch.setattr(kept, "tidied_by", ends.append)

    def merge(loaded, model):
        model.llm = weights_for_captions(model.llm, world.cell.run.llm)

    for out in ("before", "after"):
        to, resume = world.root / out, world.root / f"r-{out}"
        run_stage(StageJob(2, world.cell, world.inputs, to, resume, RUNTIME, str, done[0], merge))
        for end in ends:
            end()
    for name in ("projector.safetensors", "lora/adapter_model.safetensors"):
        one, two = (folder / "checkpoint" / name for folder in (done[1], world.root / "after"))
        assert one.read_bytes() == two.read_bytes()


def another_caption(world, features):
    clips = world.inputs.clips["train"]
    table = pl.read_parquet(clips)
    other = pl.when(pl.col("id") == "train5").then(pl.lit(["파란 상자"])).otherwise("captions")
    table.with_columns(other.alias("captions")).write_parquet(clips)


def features_made_otherwise(world, features):
    made = lambda ids: 2 * features.batch(ids)  # noqa: E731
    write_features(world.root / "train", world.root / "w", sorted(TRAIN), made, 4, features.facts)


def another_language_model(world, features):
    weights = world.root / "llm/model.safetensors"
    noise = torch.Generator().manual_seed(0)
    changed = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=noise).to(tensor.dtype)
        for name, tensor in load_file(weights).items()
    }
    save_file(changed, weights, {"format": "pt"})


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "change", [another_caption, features_made_otherwise, another_language_model]
)
def test_a_resume_point_of_other_inputs_is_not_continued(
    world, features, monkeypatch, killed, change, number
):
    """Killed, an input made anew, started again: the result is that of the new input alone."""

    def dying_in_epoch_2(job, row):
        if row["epoch"] == 2:
            raise killed

    def dying_at_the_end(*asked):
        raise killed

    parent = stage(1, world, world.cell, "parent") if number == 2 else None
    with monkeypatch.context() as patch:
        if number == 1:
            patch.setattr(stages.StageJob, "report", dying_in_epoch_2)
        else:  # of one epoch
            patch.setattr(stages, "frame_cost", dying_at_the_end)
        with pytest.raises(killed):
            stage(number, world, world.cell, "killed", parent)
    assert list((world.root / "r-killed").glob("step-*"))
    change(world, features)
    outs = ("killed", "fresh")
    resumed, fresh = (stage(number, world, world.cell, out, parent) for out in outs)
    one, two = (f / "checkpoint" / "projector.safetensors" for f in (resumed, fresh))
    assert one.read_bytes() == two.read_bytes()


# ---- What a run is made of.


def loaded_runs(world, *cells):
    return [LoadedRun(cell.run, world.inputs, use_device(RUNTIME)) for cell in cells]


def test_only_training_captions_are_permuted_and_only_for_that_control(world):
    plain, permuted = loaded_runs(world, world.cell, world.cells["control_permuted"])
    true, spoiled = plain.clips("train").captions, permuted.clips("train").captions
    assert sorted(true) == sorted(spoiled)
    assert all(a != b for a, b in zip(true, spoiled, strict=True))
    for split in ("selection", "report"):
        assert plain.clips(split).captions == permuted.clips(split).captions


def test_noise_replaces_the_features_of_every_split(world):
    plain, noise = loaded_runs(world, world.cell, world.cells["control_noise"])
    for split in ("train", "selection", "report"):
        one, two = plain.clips(split), noise.clips(split)
        assert one.captions == two.captions and one.ids == two.ids
        assert not torch.equal(one.features.batch(one.ids), two.features.batch(two.ids))


def test_projectors_start_alike_for_a_seed_and_apart_for_another(world):
    cells = world.cell, world.cell, world.study.reported([world.cell.name])[0]
    one, two, other = (run.model().projector.proj.weight for run in loaded_runs(world, *cells))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_gpu_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match=r"^runtime.device is cuda[^\n]*\.$"):
        use_device(RuntimeConfig(device="cuda"))


# ---- The secondary control: adapters learn around a projector that stays as it was initialised.


def test_the_projector_stays_as_initialised_and_calibrated_while_adapters_learn(world):
    untrained = world.cells["control_untrained"]
    out = stage(2, world, untrained, "s2")
    [loaded] = loaded_runs(world, untrained)
    kept = load_file(out / "checkpoint" / "projector.safetensors")
    for name, parameter in loaded.model().projector.named_parameters():
        assert torch.equal(kept[f"projector.{name}"], parameter), name
    # Calibrated without a first stage: the scales are no longer 1.
    assert kept["feature_scale"] != 1 and kept["output_scale"] != 1
    adapters = load_file(out / "checkpoint" / "lora" / "adapter_model.safetensors")
    learned = [tensor for name, tensor in adapters.items() if "lora_B" in name]
    assert learned and all(tensor.abs().sum() > 0 for tensor in learned)
    told = read_json(out / "cell.json", "cell/1")
    assert told["stage1_cell"] is None and told["role"] == "control_untrained"
    assert told["optimizer_steps"] == 3  # as many as the trained cell of the same budget
    steps = pl.read_parquet(out / "steps.parquet")
    assert steps["lr_projector"].to_list() == [0.0] * 3 and steps["lr_lora"].max() > 0


def test_recomputed_layers_learn_the_same(world):
    """No gradient enters through the prompt, which recomputation must not rely on."""
    losses = []
    for how in ("auto", "all"):
        runtime = RUNTIME.model_copy(update={"checkpointing": how})
        out = stage(2, world, world.cells["control_untrained"], how, runtime=runtime)
        losses.append(pl.read_parquet(out / "steps.parquet")["loss"].to_list())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


# ---- Every key of ``runtime``, through a stage: speed and memory alone.

CUDA = {"device": "cuda", "eval_batch_clips": 4}


def losses_with(world, out, **settings):
    runtime = RuntimeConfig(**{"device": "cpu", "eval_batch_clips": 4, **settings})
    folder = stage(1, world, world.cell, out, runtime=runtime)
    columns = [
        pl.read_parquet(folder / file)[column].to_list()
        for file, column in (("steps.parquet", "loss"), ("epochs.parquet", "val_loss"))
    ]
    return [*columns[0], *columns[1]]


def test_no_runtime_key_changes_what_is_learned(world):
    """All of them at once; the workflow's tests set them as well."""
    changed = {"memory_gb": 1, "compile": "off", "eval_batch_clips": 1, "save_minutes": 1e-9}
    plain, found = losses_with(world, "plain"), losses_with(world, "changed", **changed)
    assert found == pytest.approx(plain, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "changed",
    [
        *({"memory_gb": 4}, {"checkpointing": "all"}, {"checkpointing": "none"}),
        *({"compile": "on"}, {"compile": "off"}, {"eval_batch_clips": 1}, {"save_minutes": 1e-9}),
        {"device": "auto"},
    ],
    ids=str,
)
def test_no_runtime_key_changes_what_is_learned_on_a_gpu(world, changed):
    """In bf16, so beyond its rounding."""
    plain = losses_with(world, "plain", **CUDA)
    try:
        found = losses_with(world, "changed", **CUDA | changed)
    finally:
        limit_memory(torch.device("cuda"), 1e6)
    assert found == pytest.approx(plain, rel=2e-2)


# ---- What a training must not import: each job of a study pays for it again.

UNUSED = {"av", "datasets", "decord", "evaluate", "kiwipiepy", "nltk", "snakemake", "vl_convert"}
# peft imports bitsandbytes wherever that is installed, and it the compiler: a second and more.
ADAPTERS = {"bitsandbytes", "peft", "torch._inductor.compile_fx"}
# What is imported while the model loads is searched for garbage from there on.
IMPORTS = """
import sys, torch
from siglip_study.captioning.cell import caption_while_loaded
from siglip_study.config.training import LlmConfig
from siglip_study.models.llm import add_lora, import_libraries, load_llm, load_tokenizer
from siglip_study.training.stages import run_stage
config = LlmConfig(model="resources/demo/llm", quantization="none")
adapters = {adapters}
import_libraries(config, adapters=adapters)
before = set(sys.modules)
if adapters:
    load_tokenizer(config)
    add_lora(load_llm(config, torch.device("cpu")), config.lora)
late = set(sys.modules) - before
assert len(late) < 20, late
print(*sys.modules)
"""


@pytest.mark.parametrize("adapters", [False, True], ids=["stage 1", "stage 2"])
def test_a_stage_imports_nothing_of_other_jobs_and_little_after_its_libraries(adapters):
    code = IMPORTS.format(adapters=adapters)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert "transformers.models.qwen3.modeling_qwen3" in modules
    assert not modules & (UNUSED if adapters else UNUSED | ADAPTERS)
    assert ("peft" in modules) == adapters
