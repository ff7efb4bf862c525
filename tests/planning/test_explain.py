"""What would run, told in steps and causes; that it is so is held by tests/workflow."""

import subprocess
import sys

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.config import parse
from siglip_study.planning.explain import Due, ask_snakemake, due_steps, explained
from siglip_study.study import Study

LISTED = "clips or labels of report changed, or how they are checked"


def job(rule, *causes, **wildcards):
    return {"rule": rule, "wildcards": wildcards, "causes": [list(cause) for cause in causes]}


JOBS = [
    job("clips", ("params", "listed"), split="report"),
    job("vision_features", ("after", 0), split="report"),
    job("training_may_begin", ("missing",)),
    job("stage2", ("missing",), cell="linear_1"),
    job("captions", ("after", 1), cell="mlp_2"),
    job("captions", ("after", 1, 3), cell="linear_1"),
]


def test_a_step_has_the_causes_of_those_before_it_and_stands_in_the_order_of_work():
    assert due_steps(JOBS) == [
        Due("clips", "report", (LISTED,)),
        Due("vision_features", "report", (LISTED,)),
        Due("stage2", "linear_1", ("not made yet, or gone",)),
        Due("captions", "linear_1", (LISTED, "not made yet, or gone")),
        Due("captions", "mlp_2", (LISTED,)),
    ]


@pytest.mark.parametrize(
    ("rule", "cause", "why"),
    [
        ("stage1", ("params", "resume", "code"), "the code of training or of a projector changed"),
        ("score", ("params", "version"), "the code of 'scores' computes something else now"),
        ("score", ("params", "metrics"), "the metrics changed"),
        ("tables", ("params", "gate"), "`gate` changed"),
        ("scorer_check", ("params", "alpha"), "gate.alpha changed"),
        ("report", ("newer", "a.html"), "a.html is newer than what was made of it"),
    ],
)
def test_a_cause_is_told_in_words(rule, cause, why):
    (step,) = due_steps([job(rule, cause)])
    assert step.why == (why,)


def test_cells_come_first_then_causes_then_steps():
    study = Study(parse({"data": {"root": "."}, "projectors": {"linear": {}, "mlp": {}}}))
    told = "\n".join(explained(study, due_steps(JOBS)))
    assert told.startswith("2 of 11 cells would run: 1 trained, 1 captioned anew.")
    assert f"   1. {LISTED}\n   2. not made yet, or gone\n" in told
    assert "\n  1        vision features  report\n" in told
    assert "\n  1, 2     captions         linear_1\n" in told
    assert "once they are chosen" not in told
    assert "once they are chosen" in "\n".join(
        explained(study, due_steps([job("select", ("inputs",))]))
    )
    (nothing,) = explained(study, [])
    assert nothing.startswith("Nothing would run")


def test_what_stops_snakemake_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="Snakefile"):
        ask_snakemake(tmp_path / "none.yaml")


def test_snakemake_is_not_imported():
    code = "import sys, siglip_study.planning.explain; assert 'snakemake' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
