"""How far a study is, told from its files."""

import json

import pytest

from siglip_study.config import parse
from siglip_study.study.grid import SELECTION_SCHEMA, Study
from siglip_study.study.progress import progress_line


@pytest.fixture
def study(tmp_path):
    return Study(
        parse(
            {
                "output_dir": str(tmp_path),
                "data": {"root": "x"},
                "projectors": {"linear": {}, "mlp_2l": {}},
                "grid": {"learning_rate": [1e-3], "epochs": [1]},
                "seeds": {"tuning": 0, "report": [1]},
                "controls": {"blind_trained": False},
            }
        )
    )


def write(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def finish(study, cell, seconds):
    paths = study.paths
    write(paths.stage1(cell.stage1_name) / "stage.json", wall_s=seconds)
    write(paths.run(cell.name) / "cell.json", wall_s=seconds)
    write(paths.run(cell.name) / "captions.json", wall_s=seconds)


def test_nothing_done(study):
    # Two tuning cells and one fresh cell of each projector, three jobs a cell.
    assert progress_line(study) == "cell 1 of 4"


def test_the_rest_takes_as_long_as_the_mean_of_its_kind(study):
    finish(study, study.tuning[0], 120)
    assert progress_line(study) == "cell 2 of 4, about 18 min to go"


def test_every_tuning_seed_is_a_run(study):
    seeds = {"tuning": [0, 5], "report": [1]}
    config = study.config.model_dump(exclude_defaults=True) | {"seeds": seeds}
    # Two runs that tune and one fresh one of each projector.
    assert progress_line(Study(parse(config))) == "cell 1 of 6"


def test_one_kind_not_yet_timed_gives_no_estimate(study):
    write(study.paths.stage1(study.tuning[0].stage1_name) / "stage.json", wall_s=60)
    assert progress_line(study) == "cell 1 of 4"


def test_all_done(study):
    for cell in [*study.tuning, *study.reported(c.name for c in study.tuning)]:
        finish(study, cell, 60)
    assert progress_line(study).startswith("cell 4 of 4")


@pytest.mark.parametrize(
    ("names", "schema", "cells"),
    [
        # Only what was chosen counts, and a choice of an earlier version or grid stops no training.
        (["first", None], SELECTION_SCHEMA, 3),
        (["first", None], "selection/1", 3),
        (["linear_deadbeef"], SELECTION_SCHEMA, 2),
    ],
)
def test_after_selection_only_what_was_chosen_counts(study, names, schema, cells):
    first = {"first": study.tuning[0].name}
    chosen = {str(i): {"chosen": first.get(name, name)} for i, name in enumerate(names)}
    write(study.paths.selection, schema=schema, projectors=chosen)
    assert progress_line(study) == f"cell 1 of {cells}"
