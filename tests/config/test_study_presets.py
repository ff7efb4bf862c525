"""The full study and the published one load; the presets have the published settings."""

import json
from pathlib import Path

import pytest

from siglip_study.config import load
from siglip_study.study import Study

ROOT = Path(__file__).parents[2]
PUBLISHED = json.loads((ROOT / "resources/published_runs.json").read_text(encoding="utf-8"))
RUNS = {run["id"]: run for run in PUBLISHED["runs"]}


@pytest.fixture(scope="module")
def published():
    return load(ROOT / "config/published.yaml")


@pytest.fixture(scope="module", params=["study", "published"])
def study(request):
    return load(ROOT / f"config/{request.param}.yaml")


def test_every_published_run_has_a_preset_and_no_other(published):
    assert list(published.presets) == list(RUNS)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_preset_has_the_published_settings(published, run):
    preset, common = published.presets[run["id"]], PUBLISHED["common"]
    assert published.projectors[preset.projector].type in (None, preset.projector)
    assert preset.projector == run["projector"]
    assert preset.seed == 42  # "seed 42" in the file's own words
    for name in ("stage1", "stage2"):
        stage, published = getattr(preset, name), run[name]
        assert stage.epochs == published["epochs"]
        assert stage.learning_rate == pytest.approx(published["lr"])
        assert stage.batch_size == run["batch_size"]
        assert stage.gradient_accumulation == common["gradient_accumulation"]
        assert stage.warmup_ratio == common["warmup_ratio"]
        assert stage.max_grad_norm == common["max_grad_norm"]
        stop = stage.early_stopping
        assert (stop.model_dump() if stop else None) == run.get("early_stopping")


def test_the_models_and_the_prompt_are_the_published_ones(study):
    assert study.llm.prompt == PUBLISHED["prompt"]
    assert study.llm.lora.dropout == PUBLISHED["common"]["lora_dropout"]
    assert (study.llm.lora.r, study.llm.lora.alpha) == (16, 32)
    assert study.llm.quantization == "nf4"
    assert study.vision.frames == 8
    for model in (study.vision, study.llm, study.scorer):
        assert model.revision is None or len(bytes.fromhex(model.revision)) == 20


def test_token_budgets_cover_the_references(study):
    longest = PUBLISHED["caption_tokens_qwen"]["max"]
    assert study.captions.max_new_tokens > longest
    assert study.training.max_target_tokens > longest


def test_both_differ_in_what_they_compare_alone(published):
    study = load(ROOT / "config/study.yaml")
    assert len(published.projectors) == 6 and not study.presets
    changed = {"output_dir", "projectors", "presets", "controls"}
    assert study.model_dump(exclude=changed) == published.model_dump(exclude=changed)


def test_the_grid_is_fair_and_can_rank(study):
    cells = Study(study).tuning
    by_projector = {label: [c for c in cells if c.label == label] for label in study.projectors}
    budgets = {
        label: [(c.run.stage1, c.run.stage2) for c in found]
        for label, found in by_projector.items()
    }
    assert all(budget == budgets["linear"] for budget in budgets.values())
    assert all(cell.run.stage2.early_stopping is None for cell in cells)
    assert len(study.seeds.report) >= 3


def test_every_projector_of_the_study_can_be_built(study):
    import torch

    from siglip_study.projectors import FeatureShape, build

    shape = FeatureShape(8, (24, 24), 1024)
    with torch.device("meta"):
        for label, projector in study.projectors.items():
            built = build(projector.type or label, shape, 4096, **projector.options)
            assert built.tokens_per_video(8) > 0
