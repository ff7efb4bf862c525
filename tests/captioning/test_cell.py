"""Captions and losses of a cell: from the checkpoint or while loaded, the same to the bit."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from support.features import write_inputs
from support.tiny_models import stir_adapters

from siglip_study.base.io import read_json
from siglip_study.captioning import cell, losses
from siglip_study.captioning.cell import (
    BlindPrompt,
    caption_from_checkpoint,
    caption_while_loaded,
    write_captions,
)
from siglip_study.captioning.generate import generate_captions
from siglip_study.captioning.handover import handover_folder, take_handover
from siglip_study.captioning.losses import condition_losses
from siglip_study.config.study import CaptionConfig, RuntimeConfig
from siglip_study.config.training import VisionConfig
from siglip_study.models.llm import add_lora
from siglip_study.runs.clips import derangement
from siglip_study.runs.run import LoadedRun, save_checkpoint, use_device
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.study.paths import Paths

RUNTIME = RuntimeConfig(device="cpu", eval_batch_clips=2)
SETTINGS = CaptionConfig(max_new_tokens=8, batch_size=3, shuffles=2)


@pytest.fixture
def study(tmp_path: Path, llm_config, features):
    """Input files, a cell, and a builder of a run with a trained-looking model of it."""
    torch.set_num_threads(1)
    sizes = {"train": 8, "selection": 3, "report": 5}
    inputs = write_inputs(
        tmp_path, features, sizes, lambda split, i: [f"{split} 공 {(9 - i) * 11}", "둘째"]
    )
    run = RunSpec(projector="linear", vision=VisionConfig(frames=2), llm=llm_config, seed=1)

    def model(run=run):
        loaded = LoadedRun(run, inputs, use_device(RUNTIME))
        made = loaded.model()
        made.calibrate(features.batch([f"train{i}" for i in range(8)]), match_embeddings=True)
        made.llm = add_lora(made.llm, run.llm.lora)
        stir_adapters(made.llm, 0.2)
        return loaded, made

    return SimpleNamespace(cell=Cell("linear", "report", run), inputs=inputs, model=model)


@pytest.fixture
def written(study, tmp_path):
    """Caption a cell: its run, its model, the records of its captions and its table of losses."""

    def write(which):
        loaded, model = study.model()
        out = tmp_path / which.role / str(which.exchanged)
        write_captions(loaded, model, which, SETTINGS, RUNTIME, out)
        told = read_json(out / "captions.json", "captions/1")
        assert told["cell"] == which.name and told["wall_s"] > 0 and told["gpu_s"] == 0
        return loaded, model, told["records"], pl.read_parquet(out / "losses.parquet")

    return write


def test_captions_handed_over_equal_those_of_the_checkpoint(study, tmp_path):
    loaded, model = study.model()
    checkpoint, paths = tmp_path / "checkpoint", Paths(tmp_path)
    save_checkpoint(checkpoint, model, {})
    caption_while_loaded(loaded, model, study.cell, SETTINGS, RUNTIME, checkpoint, paths)
    early, late = tmp_path / "early", tmp_path / "late"
    assert take_handover(
        handover_folder(
            paths, study.cell, checkpoint, study.inputs.clips, study.inputs.features, SETTINGS
        ),
        early,
    )
    caption_from_checkpoint(study.cell, study.inputs, checkpoint, SETTINGS, RUNTIME, late)
    first, second = (read_json(f / "captions.json", "captions/1") for f in (early, late))
    assert first["records"] == second["records"]
    assert len({r["caption"] for r in first["records"]}) > 1
    tables = [pl.read_parquet(folder / "losses.parquet") for folder in (early, late)]
    assert tables[0].equals(tables[1])
    assert tables[0]["loss"].is_finite().all()


def test_a_first_stage_captions_as_it_stands(study, tmp_path):
    """Its checkpoint has no adapters; what it says is what the model said at the end of stage 1."""
    loaded = LoadedRun(study.cell.run, study.inputs, use_device(RUNTIME))
    model = loaded.model()
    model.calibrate(loaded.clips("train").features.batch(["train0", "train1"]), True)
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "alone"
    save_checkpoint(checkpoint, model, {})
    cell = replace(study.cell, role="control_stage1")
    caption_from_checkpoint(cell, study.inputs, checkpoint, SETTINGS, RUNTIME, out)
    told = read_json(out / "captions.json", "captions/1")
    assert told["cell"] == cell.name and {r["condition"] for r in told["records"]} == {"matched"}
    clips = loaded.clips("report")
    said = generate_captions(
        model, loaded.tokenizer, clips.ids, clips.features.batch, max_new_tokens=8, batch_size=3
    )
    assert [record["caption"] for record in told["records"]] == [caption.text for caption in said]


@pytest.mark.parametrize("shared", [True, False], ids=["prompts read once", "whole sequences"])
def test_conditions_are_the_losses_of_one_caption_under_one_video(
    study, written, monkeypatch, shared
):
    monkeypatch.setattr(losses, "can_share_prompts", lambda model: shared)
    loaded, model, _, table = written(study.cell)
    clips = loaded.clips("report")
    videos = [clips.features.batch([clip]) for clip in clips.ids]
    orders = [derangement(5, "shuffled", "report", k) for k in range(SETTINGS.shuffles)]

    @torch.no_grad()
    def loss(i, video):
        sums, counts = model.caption_loss(video, [clips.captions[i][0]])
        return float(sums / counts)

    expected = {
        "matched": [loss(i, videos[i]) for i in range(5)],
        "reversed": [loss(i, videos[i][:, [1, 0]]) for i in range(5)],
        "shuffled": [sum(loss(i, videos[order[i]]) for order in orders) / 2 for i in range(5)],
    }
    assert set(table["split"]) == {"report"}
    for condition, values in expected.items():
        found = table.filter(condition=condition)
        assert found["id"].to_list() == list(clips.ids)
        assert found["n_tokens"].to_list() == [len(options[0]) for options in clips.captions]
        assert found["loss"].to_list() == pytest.approx(values, rel=1e-4), condition


def test_losses_of_a_blind_model_are_equal_across_videos(study):
    blind = study.cell.run.model_copy(update={"projector": "constant_prefix"})
    loaded, model = study.model(blind)
    table = condition_losses(model, loaded.clips("report"), "report", 3, 2, loaded.accelerator)
    matched, *others = (group["loss"].to_list() for _, group in table.group_by("condition"))
    assert len(others) == 2
    for losses_of in others:
        assert losses_of == pytest.approx(matched, rel=1e-5)


def test_a_cell_captions_its_own_split_and_a_control_is_asked_for_nothing_else(study, written):
    records = written(Cell("x", "control_hot", study.cell.run))[2]
    assert {row["condition"] for row in records} == {"matched"}
    assert [row["id"] for row in records] == [f"report{i}" for i in range(5)]
    for row in records:
        assert row["split"] == "report"
        assert 1 <= row["n_tokens"] <= SETTINGS.max_new_tokens


def test_captions_of_a_half_do_not_depend_on_the_other_half(study, written):
    *_, alone, alone_losses = written(study.cell)
    *_, halves, losses_of_both = written(Cell("linear", "report", study.cell.run, exchanged=True))
    matched = [row for row in halves if row["condition"] == "matched"]
    assert {row["split"] for row in matched} == {"selection", "report"} and len(matched) == 8
    assert [row for row in matched if row["split"] == "report"] == alone[:5]
    assert losses_of_both.filter(split="report").equals(alone_losses)
    assert losses_of_both.filter(split="selection").height == 9


def test_what_a_model_says_of_nothing_and_of_the_mean_stands_apart_from_the_clips(study, written):
    loaded, model, records, _ = written(study.cell)
    extra = {row["condition"]: row for row in records if row["condition"] != "matched"}
    assert set(extra) == {"blind", "mean"} and len(records) == 7
    assert all(row["id"] is None and row["split"] == "report" for row in extra.values())

    def say(shown, features):
        ask = {"max_new_tokens": SETTINGS.max_new_tokens, "batch_size": 1}
        [said] = generate_captions(shown, loaded.tokenizer, ["x"], lambda ids: features, **ask)
        return said.text

    train = loaded.clips("train")
    mean = train.features.batch(train.ids).float().mean(dim=0, keepdim=True)
    assert extra["mean"]["caption"] == say(model, mean)
    # Blind: nothing that is shown makes a difference, and the prompt holds no video.
    blind = BlindPrompt(model)
    assert extra["blind"]["caption"] == say(blind, mean) == say(blind, 100 * mean)
    prompt = blind.prompt_embeddings(mean)
    assert prompt.shape[1] == len(loaded.layout.blind) == blind.prompt_length(mean)
    assert torch.equal(prompt, model.embed([loaded.layout.blind]).to(prompt.dtype))


def test_a_killed_captioning_leaves_nothing_to_take(study, tmp_path, monkeypatch):
    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    loaded, model = study.model()
    monkeypatch.setattr(cell, "condition_losses", killed)
    checkpoint, paths = tmp_path / "checkpoint", Paths(tmp_path)
    save_checkpoint(checkpoint, model, {})
    with pytest.raises(KeyboardInterrupt):
        caption_while_loaded(loaded, model, study.cell, SETTINGS, RUNTIME, checkpoint, paths)
    inputs = study.inputs
    folder = handover_folder(paths, study.cell, checkpoint, inputs.clips, inputs.features, SETTINGS)
    assert not take_handover(folder, tmp_path / "out")
    assert not list(folder.parent.iterdir())
