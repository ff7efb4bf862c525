"""The published figures: every run that has a diversity comes out as DESIGN says it must."""

import json
from pathlib import Path

import pytest

from siglip_study.report.comparisons import published_view

PATH = Path(__file__).parents[2] / "resources" / "published_runs.json"


def cell(role, projector, seed, siglip, distinct, meteor):
    return {
        **{"role": role, "projector": projector, "seed": seed},
        **{"siglip_published": siglip, "distinct_ratio": distinct, "meteor_words": meteor},
    }


CELLS = [
    cell("references", None, None, 0.4, 1.0, None),
    cell("tuning", "linear", 0, 0.9, 0.9, 0.9),
    cell("report", "linear", 1, 0.10, 1.0, 0.2),
    cell("report", "linear", 2, 0.20, 0.5, 0.4),
]


def test_compressors_collapsed_by_diversity_alone_and_the_others_prove_nothing():
    view = published_view(PATH, CELLS)
    labels = {row["id"]: row["label"] for row in view["rows"]}
    assert labels == {
        "E1-v2": "Undetermined",
        "E3-v2": "Undetermined",
        "E5-v2": "Collapsed by diversity alone",
        "E5-v3": "Collapsed by diversity alone",
        "E7-v2": "Collapsed by diversity alone",
    }


def test_figures_are_the_published_ones():
    rows = {row["id"]: row for row in published_view(PATH, CELLS)["rows"]}
    run = {run["id"]: run for run in json.loads(PATH.read_text(encoding="utf-8"))["runs"]}["E5-v3"]
    row = rows["E5-v3"]
    assert float(row["siglip"]) == pytest.approx(run["final"]["siglip"])
    assert float(row["diversity"]) == run["final"]["diversity"]
    assert float(row["meteor"]) == run["final"]["meteor"]
    assert (row["parameters"], rows["E7-v2"]["claimed"]) == ("205.84 M", "134M")
    assert rows["E1-v2"]["meteor"] == "–" and rows["E1-v2"]["finished"]


def test_ours_are_means_over_report_seeds():
    human, linear = published_view(PATH, CELLS)["own"]
    assert human == {
        "label": "Human references",
        "siglip_published": "0.4000",
        "distinct_ratio": "1.00",
        "meteor_words": "–",
    }
    assert (linear["siglip_published"], linear["distinct_ratio"]) == ("0.1500", "0.75")
    assert linear["meteor_words"] == "0.3000"


def test_the_gate_s_threshold_decides():
    view = published_view(PATH, CELLS, {"min_effective_ratio": 0.05})
    labels = {row["id"]: row["label"] for row in view["rows"]}
    assert set(labels.values()) == {"Undetermined"}


def test_without_a_file_there_is_no_section(tmp_path):
    assert published_view(None, CELLS) is None
    assert published_view(tmp_path / "absent.json", CELLS) is None
