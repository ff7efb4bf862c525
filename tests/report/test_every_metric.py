"""The table of every metric, between chance and people."""

from siglip_study.report.glossary import every_metric
from siglip_study.report.results import CellResult
from siglip_study.scoring.score_captions import metric_metadata

NAMES = ["retrieval_r1", "meteor_gain"]


def cell(role, r1, gain, **more):
    values = {
        "retrieval_r1": {"value": r1, "chance": 0.25},
        "meteor_gain": {"value": gain, "chance": 0.0},
    }
    told = {"metrics": metric_metadata(NAMES, "ko"), "values": values, **more}
    return CellResult(role, role, told, {"projector": "a", "seed": 1} if role == "report" else {})


def test_every_projector_stands_between_chance_and_people():
    missing = {"not_computed": {"bertscore_f1": "no model is configured"}}
    cells = [
        cell("report", 0.25, 0.1, **missing),
        cell("report", 0.75, 0.3),
        cell("references", 1.0, None),
        cell("control_retrieval", 0.75, 0.2),
    ]
    table = every_metric(cells, ["a", "b"])
    assert table["projectors"] == ["a", "b"]
    found = {row["name"]: row for row in table["rows"]}
    assert set(found) == set(NAMES)  # what was not computed has its reason in the glossary
    r1, gain = found["retrieval_r1"], found["meteor_gain"]
    assert (r1["chance"], r1["values"], r1["retrieval"], r1["human"]) == (
        "0.250",
        ["0.500", "–"],
        "0.750",
        "1.000",
    )
    assert gain["values"] == ["0.200", "–"]
    assert r1["note"] == "higher is better, 0 to 1"
    assert gain["human"] == "–" and "morphemes" in gain["tokens"]
