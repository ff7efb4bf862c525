"""The version number of a stage: the code that its record follows, and what a change asks for."""

import json
import sys

import pytest
from support.pages import arguments, documented
from support.tracing import untraced

from tools import reach, stage_code
from tools.stage_code import Stage, complaints, reached

FILES = {
    "src/siglip_study/work.py": """
from siglip_study.arithmetic import total
from siglip_study import arithmetic
from siglip_study.registry import build

def run(values):
    return arithmetic.scaled(total(values)) + build("linear")

def unused():
    return 7
""",
    "src/siglip_study/arithmetic.py": '''
"""Sums."""
FACTOR = 2

def total(values):
    if not values:
        raise ValueError("nothing to add")
    return sum(values)

def scaled(x):
    return FACTOR * x

def mean(values):
    return total(values) / len(values)
''',
    "src/siglip_study/registry.py": """
import importlib

def build(name):
    return importlib.import_module(f"siglip_study.{name}").VALUE
""",
    "src/siglip_study/linear.py": "VALUE = 1\n",
    "workflow/scripts/job.py": """
with job(snakemake.log[0]):
    from siglip_study.work import run

    run([1, 2])
""",
}


@pytest.fixture
def hash_after(tmp_path, monkeypatch):
    """The hash of a small library's one stage after files are changed, added or removed."""
    monkeypatch.setattr(stage_code, "ROOT", tmp_path)
    monkeypatch.setattr(reach, "SOURCE", tmp_path / "src")

    def of(changed=None, without=()):
        for name, text in {**FILES, **(changed or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        reach.module_file.cache_clear()
        reach.module_of.cache_clear()
        return reached(Stage(("job",), "work", without=without)).hash()

    yield of
    reach.module_file.cache_clear()
    reach.module_of.cache_clear()


def edited(name, old, new):
    path = f"src/siglip_study/{name}.py"
    assert old in FILES[path]
    return {path: FILES[path].replace(old, new)}


MOVED = {
    "src/siglip_study/sums.py": FILES["src/siglip_study/arithmetic.py"],
    "src/siglip_study/work.py": FILES["src/siglip_study/work.py"]
    .replace("siglip_study.arithmetic", "siglip_study.sums")
    .replace("import arithmetic", "import sums")
    .replace("arithmetic.scaled", "sums.scaled"),
}
LEFT_ALONE = {
    "a reworded error": edited("arithmetic", "nothing to add", "expected a value"),
    "a definition that nothing calls": edited("work", "return 7", "return 8"),
    "another user's function": edited("arithmetic", "/ len(values)", "/ max(len(values), 1)"),
    "a new projector": {"src/siglip_study/merger.py": "VALUE = 2\n"},
    "a changed projector": {"src/siglip_study/linear.py": "VALUE = 3\n"},
    "a moved module": MOVED,
}
NOTICED = {
    "arithmetic": edited("work", "scaled(total(values)) +", "scaled(total(values)) -"),
    "arithmetic that an import reaches": edited("arithmetic", "FACTOR * x", "FACTOR * x + 1"),
    "a constant that it reaches": edited("arithmetic", "FACTOR = 2", "FACTOR = 3"),
}


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_what_changes_no_result_asks_for_nothing(hash_after, what):
    assert hash_after(LEFT_ALONE[what]) == hash_after()


@pytest.mark.parametrize("what", NOTICED)
def test_what_computes_something_else_is_noticed(hash_after, what):
    assert hash_after(NOTICED[what]) != hash_after()


def test_what_has_a_number_of_its_own_is_not_followed(hash_after):
    apart = ("arithmetic",)
    changed = edited("arithmetic", "FACTOR = 2", "FACTOR = 3")
    assert hash_after(changed, without=apart) == hash_after(without=apart)


def test_a_changed_code_names_the_number_to_raise_and_the_command_to_run():
    before = {"training": {"version": 1, "code": "a"}}
    (said,) = complaints(before, {"training": {"version": 1, "code": "b"}})
    assert "VERSION in src/siglip_study/training/__init__.py" in said
    assert "python -m tools.stage_code --record" in said
    assert complaints(before, before) == []


def test_a_raised_number_asks_only_to_be_recorded():
    before = {"training": {"version": 1, "code": "a"}}
    (said,) = complaints(before, {"training": {"version": 2, "code": "b"}})
    assert "--record" in said and "raise" not in said


def test_a_new_metric_asks_only_to_be_recorded():
    (said,) = complaints({}, {"metric rouge": {"version": "1", "code": "a"}})
    assert "'metric rouge' is new" in said and "--record" in said and "raise" not in said


def test_the_code_behind_every_version_is_the_recorded_one(tmp_path, monkeypatch):
    recorded = json.loads(stage_code.RECORD.read_text("utf-8"))
    monkeypatch.setattr(stage_code, "RECORD", tmp_path / "stage_code.json")
    line = documented(".venv/bin/python -m tools.stage_code --record")
    monkeypatch.setattr(sys, "argv", ["stage_code", *arguments(line)])
    with untraced():
        assert stage_code.main() == 0
    today = json.loads(stage_code.RECORD.read_text("utf-8"))
    assert "\n".join(complaints(recorded, today)) == ""
    # A stage that is gone leaves no record.
    assert set(recorded) <= set(today), "run python -m tools.stage_code --record"


def test_every_script_with_a_rule_that_keeps_results_has_a_stage():
    covered = {name for stage in stage_code.STAGES.values() for name in stage.scripts}
    scripts = {path.stem for path in (stage_code.ROOT / "workflow" / "scripts").glob("*.py")}
    # These three keep nothing that a later job reads as a result.
    assert scripts - covered <= {"rehearse", "preflight", "scorer_verdict"}
