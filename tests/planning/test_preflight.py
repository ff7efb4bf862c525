"""Each check passes where all is well and fails where it should, and the others still run."""

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from siglip_study.config import load
from siglip_study.planning.estimate import OVERHEAD_BYTES, Forecast
from siglip_study.planning.preflight import CHECKS, memory_finding, preflight, verdict

ROOT, GIB = Path(__file__).parents[2], 2**30
HALVED = ("train", "held_out")
SPLITS = ("train", "selection", "report")
TOWER = str(ROOT / "resources" / "demo" / "vision")
LLM = str(ROOT / "resources" / "demo" / "llm")


def failures(config):
    return [f"{f.what}: {f.sentence}" for f in preflight(config) if f.level == "failed"]


def test_the_demo_is_ready_before_its_clips_exist(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    config = load("config/config.yaml").model_copy(update={"output_dir": str(tmp_path)})
    findings = preflight(config)
    assert {f.what for f in findings} == set(CHECKS)
    assert [str(f) for f in findings if f.level != "ok"] == []
    assert any("the demo's clips will be made" in f.sentence for f in findings)
    assert verdict(findings)[0]


def test_all_checks_run_whatever_one_meets(study, models, monkeypatch):
    monkeypatch.setitem(CHECKS, "gpu", lambda forecast: 1 / 0)
    (models / "vision" / "config.json").unlink()
    findings = preflight(study())
    assert {f.what for f in findings} >= {"config", "vision", "llm", "scorer", "data", "report"}
    assert any("gpu: ZeroDivisionError" in str(f) for f in findings if f.level == "failed")
    ready, sentence = verdict(findings)
    assert not ready and "not ready" in sentence
    assert all(str(f).startswith(("ok ", "warning ", "failed ")) for f in findings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"scorer": {"model": "google/siglip2-so400m-patch14-384", "frames": 2}},
            "not on this machine; fetch it ahead with: python -m",
        ),
        (
            {"llm": {"model": LLM, "matmul": "fp8", "lora": {"targets": ["q_proj"]}}},
            "gpu: llm.matmul is fp8, and the device is the CPU; expected an NVIDIA GPU",
        ),
        (
            {"llm": {"model": "Qwen / Qwen3"}},
            "llm.model is 'Qwen / Qwen3'; expected a folder or a hub",
        ),
        ({"scorer": {"model": TOWER}}, "scorer: "),  # the encoder is no judge
        ({"data": {"root": "./none"}, "demo": None}, "there is no such folder"),
    ],
)
def test_a_config_that_will_not_do(study, changes, said):
    assert any(said in line for line in failures(study(**changes)))


def test_a_marker_that_the_tokenizer_spells_out(study):
    llm = study().llm.model_copy(update={"vision_markers": ("<video>", "</video>")})
    findings = preflight(study().model_copy(update={"llm": llm}))
    assert any("'<video>' is" in f.sentence for f in findings if f.level == "warning")


def test_the_demos_models_know_no_clips_but_the_demos(study, dataset):
    config = study(data={"root": str(dataset())}, demo=None)
    warned = {f.what for f in preflight(config, ["llm", "scorer"]) if f.level == "warning"}
    assert warned == {"llm", "scorer"}
    assert {f.level for f in preflight(study(), ["llm", "scorer"])} == {"ok"}


def test_a_good_dataset(study, dataset, clip):
    config = study(data={"root": str(dataset(video=clip))}, demo=None)
    findings = [f for f in preflight(config) if f.what == "data"]
    assert "failed" not in {f.level for f in findings}
    assert any("train-0.mp4 decodes, 128×96 pixels" in f.sentence for f in findings)


@pytest.mark.parametrize(
    ("splits", "keys", "said"),
    [
        (("train", "selection"), {}, "report/videos: no such folder"),
        (SPLITS, {"caption_key": "annotation.text"}, "3 rejected: .*'annotation.text' is absent"),
        (
            HALVED,
            {"splits": {key: key for key in HALVED}},
            "held_out: 3 clips; expected 6, as each",
        ),
    ],
)
def test_a_dataset_that_will_not_do(study, dataset, splits, keys, said):
    data = {"root": str(dataset(splits=splits)), **keys}
    assert any(re.search(said, line) for line in failures(study(data=data, demo=None)))


def test_a_source_video_of_two_splits_is_told_before_any_job(study, dataset):
    root = dataset()
    for split in ("train", "report"):
        label = {"annotation": {"description_kr": "공."}, "meta": {"source": "tape 7"}}
        (root / split / "labels" / f"{split}-1.json").write_text(json.dumps(label))
    found = failures(study(data={"root": str(root)}, demo=None))
    assert any("'tape 7' has clips in the splits train and report" in line for line in found)


def test_one_clip_or_label_that_cannot_be_read_is_a_warning(study, dataset):
    root = dataset(video=b"text")
    (root / "train" / "labels" / "train-1.json").write_text("{")
    findings = preflight(study(data={"root": str(root)}, demo=None))
    warned = [f.sentence for f in findings if f.level == "warning"]
    assert any("cannot be decoded" in line for line in warned)
    assert any("1 rejected" in line for line in warned)


def test_a_full_disk(study, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1000))
    assert any("will be written and 1e-06 GB are free" in f for f in failures(study()))


@pytest.mark.parametrize(
    ("place", "said"),
    [("file/results", "file is no folder"), ("taken", "report.html is a folder")],
)
def test_the_report_s_place(study, tmp_path, place, said):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    found = failures(study(output_dir=str(tmp_path / place)))
    assert any(line.startswith("report: ") and said in line for line in found)


@pytest.mark.parametrize("checkpointing", ["auto", "none"])
def test_gpu_memory_is_reckoned_as_each_training_will(checkpointing):
    """The plan leaves 6 % of what is free, and keeps every layer where the config says so."""
    config = load(ROOT / "config" / "published.yaml")
    runtime = config.runtime.model_copy(update={"checkpointing": checkpointing})
    config = config.model_copy(update={"runtime": runtime})
    forecast = Forecast(config)
    most = max(map(forecast.training_bytes, forecast.workload.steps))
    room = most + OVERHEAD_BYTES
    assert memory_finding(forecast, room + 1e6, "a GPU")[0] == "ok"
    level, sentence = memory_finding(forecast, room - 1e6, "a GPU")
    assert level == "failed" and f"at least {most / GIB:.1f} GiB" in sentence
    # Where layers are recomputed, the optimizer of a 541 M projector is what needs most.
    assert ("of query_perceiver needs" in sentence) == (checkpointing == "auto")
    # 36 layers of 4,636 positions before the caption do not fit 24 GiB unless they are recomputed.
    assert (memory_finding(forecast, 24 * GIB, "a GPU")[0] == "ok") == (checkpointing == "auto")
    # A limit of the config holds for tensors alone.
    runtime = runtime.model_copy(update={"memory_gb": (most - 1e6) / GIB})
    bound = Forecast(config.model_copy(update={"runtime": runtime}))
    assert memory_finding(bound, 1000 * GIB, "a GPU")[0] == "failed"
