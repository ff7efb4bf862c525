"""Every metric between chance and people, and the published figures beside ours."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from support.made_study.ranking import made_ranking

from siglip_study.ranking.metric_figures import metric_figures
from siglip_study.report.comparisons import (
    every_metric,
    metric_heading,
    metric_rows,
    published_view,
)
from siglip_study.report.language import Text
from siglip_study.report.results import CellResult
from siglip_study.scoring.score_captions import metric_metadata

PUBLISHED = Path(__file__).parents[2] / "resources" / "published_runs.json"


def captioner(role, r1, gain, **more):
    values = {
        "retrieval_r1": {"value": r1, "chance": 0.25},
        "meteor_gain": {"value": gain, "chance": 0.0},
    }
    told = {"metrics": metric_metadata(list(values), "ko"), "values": values, **more}
    return CellResult(role, role, told, {"projector": "a", "seed": 1} if role == "report" else {})


def test_every_projector_stands_between_chance_and_people():
    missing = {"not_computed": {"bertscore_f1": "no model is configured"}}
    cells = [
        captioner("report", 0.25, 0.1, **missing),
        captioner("report", 0.75, 0.3),
        captioner("references", 1.0, None),
        captioner("control_retrieval", 0.75, 0.2),
    ]
    rows = {row["metric"]: row for row in metric_rows(cells)}
    assert rows["bertscore_f1"]["not_computed"] == "no model is configured"
    # What was not computed has its reason in the glossary.
    scores = {"a": {"retrieval_r1": np.array([[0.0, 1.0, 0.5, 0.5]])}}
    figures = metric_figures(scores, ["v", "w", "x", "y"])
    ranking = replace(made_ranking(["a"], 1), metrics=figures)
    r1, gain = every_metric(list(rows.values()), cells, ["a", "b"], ranking)
    assert r1["metric"] == "retrieval_r1" and gain["metric"] == "meteor_gain"
    assert (r1["chance"], r1["retrieval"], r1["human"]) == (0.25, 0.75, 1.0)
    (interval,) = figures[0].means
    assert r1["means"][0] == {"value": 0.5, "low": interval.low, "high": interval.high}
    assert r1["means"][1] == {"value": None, "low": None, "high": None}
    assert gain["means"][0] == {"value": pytest.approx(0.2), "low": None, "high": None}
    assert gain["human"] is None
    assert metric_heading(rows["retrieval_r1"])["note"].en == "higher is better, 0 to 1"


@pytest.mark.parametrize(
    ("language", "name", "tokens"),
    [
        ("ko", "meteor_gain", "kiwipiepy content morphemes"),
        ("ko", "cider_gain", "kiwipiepy morphemes"),
        ("ko", "distinct_2", "kiwipiepy morphemes"),
        ("ko", "self_bleu", "kiwipiepy morphemes"),
        ("ko", "meteor_characters", "characters"),
        ("ko", "meteor_words", "white space"),
        ("en", "meteor_gain", "words without punctuation"),
        ("en", "cider_gain", "words"),
        ("ko", "bertscore_f1", ""),
        ("ko", "grounding_margin", ""),
    ],
)
def test_a_column_names_its_tokens_and_the_glossary_their_version(language, name, tokens):
    told = {"metrics": metric_metadata([name], language), "values": {}}
    (row,) = metric_rows([CellResult("a", "report", told)])
    assert metric_heading(row)["tokens"].en == tokens
    assert tokens.split(" ")[0] in (row["tokenizer"] or "")
    if tokens.startswith("kiwipiepy"):
        assert version("kiwipiepy") in row["tokenizer"]


# ---- The published study.


def cell(role, projector, siglip, distinct, meteor):
    figures = {"siglip_published": siglip, "distinct_ratio": distinct, "meteor_words": meteor}
    return {"role": role, "projector": projector, **figures}


CELLS = [
    cell("references", None, 0.4, 1.0, None),
    cell("tuning", "linear", 0.9, 0.9, 0.9),
    cell("report", "linear", 0.10, 1.0, 0.2),
    cell("report", "linear", 0.20, 0.5, 0.4),
]


def labels(gate=None):
    return {row["id"]: row["label"].en for row in published_view(PUBLISHED, CELLS, gate)["rows"]}


def test_compressors_collapsed_by_diversity_alone_and_the_others_prove_nothing():
    assert labels() == {
        "E1-v2": "Undetermined",
        "E3-v2": "Undetermined",
        "E5-v2": "Collapsed by diversity alone",
        "E5-v3": "Collapsed by diversity alone",
        "E7-v2": "Collapsed by diversity alone",
    }
    # The gate's threshold decides.
    assert set(labels({"min_effective_ratio": 0.05}).values()) == {"Undetermined"}


def test_figures_are_the_published_ones():
    rows = {row["id"]: row for row in published_view(PUBLISHED, CELLS)["rows"]}
    runs = json.loads(PUBLISHED.read_text(encoding="utf-8"))["runs"]
    final = next(run["final"] for run in runs if run["id"] == "E5-v3")
    row = rows["E5-v3"]
    assert (row["siglip"], row["diversity"]) == (final["siglip"], final["diversity"])
    assert row["meteor"] == final["meteor"]
    assert (row["parameters"], rows["E7-v2"]["claimed"]) == (205_840_384, "134M")
    assert rows["E1-v2"]["meteor"] is None and not rows["E1-v2"]["finished"]


def test_ours_are_means_over_report_seeds():
    human, linear = published_view(PUBLISHED, CELLS)["own"]
    assert human == {
        "label": Text("Human captions", "사람 캡션"),
        **{"siglip_published": 0.4, "distinct_ratio": 1.0, "meteor_words": None},
    }
    assert linear["siglip_published"] == pytest.approx(0.15)
    assert (linear["distinct_ratio"], linear["meteor_words"]) == (0.75, pytest.approx(0.3))


@pytest.mark.parametrize("name", [None, "absent.json"])
def test_without_a_file_there_is_no_section(tmp_path, name):
    assert published_view(name and tmp_path / name, CELLS) is None
