"""Both sides of every benchmark give a time, and what they compute is the same."""

import importlib.util
import json
import os
import sys

import pytest
import torch

from benchmarks import data_parallel, results
from benchmarks.inputs import MICRO
from benchmarks.run import SCHEMA, run
from siglip_study.base.io import read_json

TIMED = ("training", "captions", "tower", "scoring")


def entry(kept, name):
    return kept["benchmarks"][name]


@pytest.mark.parametrize("name", TIMED)
def test_both_sides_are_timed(kept, name):
    parts = entry(kept, name)["parts"]
    sides = {side for key in parts for side in ("ours", "published") if f"/{side}" in key}
    assert sides == {"ours", "published"}
    assert set(entry(kept, name)["sides"]) >= sides
    # A start-up is a difference of two times, which at this size is noise.
    assert all(v > 0 for k, v in parts.items() if not k.endswith("startup"))
    assert entry(kept, name)["tables"] and entry(kept, name)["machine"].startswith("CPU")


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("training", 1e-4),  # loss of the first step in fp32, full logits against ours
        ("captions", 0.0),  # the same greedy tokens under the same penalty
        ("tower", 4e-3),  # ours is stored in bf16
        ("scoring", 1e-6),  # mean sigmoid of the same caption and frames
    ],
)
def test_both_sides_compute_the_same(kept, name, limit):
    agreement = [v for k, v in entry(kept, name)["agreement"].items() if "FP8" not in k]
    assert agreement
    assert max(agreement) <= limit


def test_training_compares_every_stage_and_case(kept):
    found = entry(kept, "training")
    # Two stages of two cases, and of the first one in FP8, whose loss is another.
    assert len(found["agreement"]) == 6
    assert len(found["tables"][0]["rows"]) == 10


def test_fp8_is_near_what_the_published_step_computes(kept):
    """Random weights, two layers: an e4m3 number has a relative error of up to 6 %."""
    apart = entry(kept, "training")["agreement"]
    assert all(0 < value < 0.02 for name, value in apart.items() if "FP8" in name)


def test_merged_adapters_and_recorded_steps_cost_nothing_in_fp32(kept):
    rounding, decoding = entry(kept, "adapters")["tables"]
    kl = {row[0]: abs(row[1]) for row in rounding["rows"]}
    assert max(kl["apart"], kl["merged"]) < 1e-6 < kl["absent"]
    assert len(decoding["rows"]) == 4
    assert max(row[3] for row in decoding["rows"]) < 1e-5


def test_the_feature_job_is_timed_from_files_of_both_kinds(kept):
    rows = entry(kept, "feature_job")["tables"][0]["rows"]
    assert [row[0].rpartition(" ")[2] for row in rows] == ["alone", "250", "30"]
    assert all(row[1] > 0 for row in rows)


def test_decoding_compares_the_same_frames_or_says_why_not(kept):
    found = entry(kept, "decoding")
    if importlib.util.find_spec("cv2") is None:
        assert "opencv-python-headless" in found["skipped"] and not found["tables"]
        return
    # OpenCV and FFmpeg may convert colours with another rounding.
    assert max(found["agreement"].values()) < 2
    assert all(seconds > 0 for seconds in found["parts"].values())


def test_the_study_is_projected_from_the_parts(kept):
    found = entry(kept, "study")
    assert found["skipped"] is None
    one, _, five = found["tables"]
    total = one["rows"][-1]
    assert total[0] == "total"
    assert total[1] == pytest.approx(sum(row[1] for row in one["rows"][:-1]))
    assert [row[0].split()[0] for row in five["rows"]] == [
        *("E1-v2", "E3-v2", "E5-v2", "E5-v3", "E7-v2", "features", "total")
    ]


def test_results_are_written_from_what_was_kept(kept, tmp_path):
    source = tmp_path / "here.json"
    source.write_text(json.dumps(kept), encoding="utf-8")
    results.main([str(source), "--out", str(tmp_path / "RESULTS.md")])
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    for name in (*TIMED, "study"):
        assert f"## {name.capitalize()}\n" in page
    assert entry(kept, "training")["date"] in page and "torch " in page


def test_the_published_page_is_of_the_kept_figures(tmp_path):
    results.main(["--out", str(tmp_path / "RESULTS.md")])
    again = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert (results.HERE / "RESULTS.md").read_text(encoding="utf-8") == again


def test_a_second_run_keeps_the_other_figures(kept, tmp_path):
    out = tmp_path / "here.json"
    out.write_text(json.dumps(kept), encoding="utf-8")
    found = run("micro", ["study"], "cpu", out)
    assert found["training"] == entry(kept, "training")
    assert found["study"]["tables"] == entry(kept, "study")["tables"]


@pytest.mark.full
def test_two_ranks_take_the_step_of_one(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    found = data_parallel.run(MICRO, torch.device("cpu"))
    assert all(seconds > 0 for seconds in found.parts.values())
    assert max(found.agreement.values()) < 1e-5


@pytest.mark.parametrize(
    ("page", "claim"),
    [
        ("README.md", results.claim),
        ("docs/speed.md", results.claim),
        ("docs/speed.md", results.claim_of_jobs),
    ],
)
def test_pages_claim_what_was_measured(page, claim):
    text = " ".join((results.HERE.parent / page).read_text(encoding="utf-8").split())
    assert claim(read_json(results.CLAIMED, SCHEMA)) in text
