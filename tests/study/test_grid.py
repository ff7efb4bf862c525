"""Cells and their names: stable, distinct, safe in a path, shared where they may be."""

import re
from typing import Any

import pytest
from pydantic import Field

from siglip_study.base.errors import StudyError
from siglip_study.config import parse
from siglip_study.config.training import LlmConfig, LoraConfig, StageConfig
from siglip_study.study.cells import RunSpec, keys_hash
from siglip_study.study.grid import PHASES, Study, cell_pattern, chosen_cells
from siglip_study.study.paths import Paths

ABSTRACTOR = {"options": {"queries": 16}}


def study(**changes: Any) -> Study:
    raw: dict[str, Any] = {
        "data": {"root": "x"},
        "projectors": {"linear": {}, "query_abstractor": ABSTRACTOR},
        "grid": {"learning_rate": [1e-4, 1e-3], "epochs": [2, 4]},
        "seeds": {"tuning": 0, "report": [1, 2]},
    }
    return Study(parse({**raw, **changes}))


def test_the_grid_is_every_projector_times_every_axis():
    tuning = study().tuning
    assert len(tuning) == len({cell.name for cell in tuning}) == 2 * 2 * 2
    points = {}
    for cell in tuning:
        stage2 = cell.run.stage2
        points.setdefault(cell.label, set()).add((stage2.learning_rate, stage2.epochs))
        assert (cell.run.seed, cell.role, cell.captioned) == (0, "tuning", ("selection",))
    every = {(rate, epochs) for rate in (1e-4, 1e-3) for epochs in (2, 4)}
    assert points == {"linear": every, "query_abstractor": every}


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": {"learning_rate": [1e-4, 1e-3, 1e-2], "epochs": [2, 4]}},
        {"grid": {"learning_rate": [1e-4, 1e-3], "epochs": [2, 4, 8]}},
        {"seeds": {"tuning": 0, "report": [1, 2, 3]}},
        {"seeds": {"tuning": [0, 3], "report": [1, 2]}},
        {"projectors": {"mlp_2l": {}, "linear": {}, "query_abstractor": ABSTRACTOR}},
        {"controls": {"noise_features": "linear", "permuted_captions": "linear"}},
        {"captions": {"max_new_tokens": 9}, "gate": {"alpha": 0.01}, "report": {"title": "x"}},
        {"runtime": {"device": "cpu", "save_minutes": 3}},
        # Beside the value that the config has, others of a key that was no axis.
        {"grid": {"learning_rate": [1e-4, 1e-3], "epochs": [2, 4], "llm.lora.r": [16, 32]}},
        {"grid": {"learning_rate": [1e-4, 1e-3], "epochs": [2, 4], "vision.layer": [-1, -2]}},
    ],
)
def test_a_value_added_to_an_axis_renames_nothing(changes):
    before, after = study(), study(**changes)
    tuning = {cell.name for cell in before.tuning}
    assert tuning <= {cell.name for cell in after.tuning}
    assert tuning <= set(after.cells) and set(before.stage1_cells) <= set(after.stage1_cells)


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"max_target_tokens": 9}},
        {"vision": {"layer": -1}},
        {"llm": {"prompt": "뭐죠?"}},
        {"llm": {"lora": {"r": 3}}},
        {"stage1": {"learning_rate": 0.5}},
        {"stage2": {"batch_size": 9}},
        {"seeds": {"tuning": 5, "report": [1, 2]}},
    ],
)
def test_what_changes_a_result_changes_the_name(changes):
    before, after = study(), study(**changes)
    assert not {c.name for c in before.tuning} & {c.name for c in after.tuning}


def test_a_new_key_at_its_default_renames_nothing(monkeypatch):
    """Tomorrow's version of the config has a key that today's does not know."""

    class NewStage(StageConfig):
        swish: float = Field(0.0)

    class NewRun(RunSpec):
        stage1: NewStage = NewStage()
        stage2: NewStage = NewStage(epochs=3, learning_rate=5e-5)
        ema: bool = False

    for settings in ({}, {"stage2": {"epochs": 7}, "seed": 3}, {"stage2": {}}):
        old, new = RunSpec(projector="linear", **settings), NewRun(projector="linear", **settings)
        assert old.keys() == new.keys() and old.stage1_keys() == new.stage1_keys()
        assert NewRun(projector="linear", **settings, ema=True).keys() != new.keys()


def test_different_runs_have_different_keys_even_where_defaults_differ():
    """Stage 2's default is not the default of a stage: an empty stage is another run."""
    assert RunSpec(projector="a").keys() != RunSpec(projector="a", stage2=StageConfig()).keys()


def test_stage_one_is_shared_by_what_only_stage_two_tells_apart():
    made = study()
    for label in ("linear", "query_abstractor"):
        assert len({c.stage1_name for c in made.tuning if c.label == label}) == 1
    fresh = made.reported([made.tuning[0].name])
    assert [cell.run.seed for cell in fresh] == [1, 2]
    assert len({cell.stage1_name for cell in [*fresh, made.tuning[0]]}) == 3
    plain = RunSpec(projector="linear")
    other_lora = plain.model_copy(update={"llm": LlmConfig(lora=LoraConfig(r=3))})
    assert other_lora.keys() != plain.keys()
    assert other_lora.stage1_keys() == plain.stage1_keys()
    for field, value in (
        ("seed", 4),
        ("stage1", StageConfig(epochs=9)),
        ("sabotage", "noise_features"),
    ):
        assert plain.model_copy(update={field: value}).stage1_keys() != plain.stage1_keys()


def test_cells_share_what_their_axes_do_not_change():
    grid = {"learning_rate": [1e-3], "epochs": [2], "llm.lora.r": [4, 8], "vision.layer": [-1, -2]}
    made = study(grid=grid, projectors={"linear": {}}, controls={"noise_features": "linear"})
    assert len(made.tuning) == 4 and len(made.encoders) == 2 and len(made.llms) == 1
    # Adapters are stage 2's: one first stage a layer.
    assert len({cell.stage1_name for cell in made.tuning}) == 2
    for cell in made.tuning:
        assert made.encoders[cell.run.encoder] == cell.run.vision
        settings = cell.settings["llm.lora.r"], cell.settings["vision.layer"]
        assert settings == (cell.run.llm.lora.r, cell.run.vision.layer)
        assert cell.title() == f"{cell.name} · r {settings[0]} · layer {settings[1]}"
        assert cell.title(1) == f"{cell.stage1_name} · layer {settings[1]}"
    # Controls, and what trains nothing, have the config's value of an axis, else its first.
    assert {(c.run.llm.lora.r, c.run.vision.layer) for c in made.controls} == {(4, -2)}
    assert made.encoders[made.encoder_slug].layer == -2


def test_frames_a_second_change_features_and_fixed_numbers_leave_them_where_they_are():
    old = {"model": "a/b", "revision": None, "weights": "pretrained", "layer": -2, "frames": 8}
    made = study(vision={"model": "a/b"}, grid={"vision.frames_per_second": [None, 2]})
    assert [cell.run.encoder for cell in made.points[0]] == [f"b-{keys_hash(old)}"]
    assert len(made.encoders) == 2


def test_options_on_an_axis_of_its_own_are_a_projectors():
    own = {"type": "mlp_2l", "options": {"a": 1}, "grid": {"options.b": [2, 3]}}
    made = study(projectors={"wide": own}, grid={"learning_rate": [1e-3], "epochs": [2]})
    assert [cell.run.options for cell in made.tuning] == [{"a": 1, "b": 2}, {"a": 1, "b": 3}]


def test_fresh_cells_are_the_chosen_one_but_for_the_seed_and_are_reported():
    made = study()
    chosen = made.tuning[3]
    for cell in made.reported([chosen.name]):
        assert (cell.role, cell.captioned, cell.label) == ("report", ("report",), chosen.label)
        assert cell.run.model_copy(update={"seed": 0}) == chosen.run


def test_a_choice_of_a_cell_that_left_the_grid_counts_for_nothing():
    made = study()
    stays, left = made.tuning[0].name, "linear_deadbeef"
    choice = {"a": {"report": stays}, "b": {"selection": stays, "report": left}}
    assert made.still_there(choice) == {"a": {"report": stays}}
    with pytest.raises(StudyError, match=r"selection.json: chose cell 'linear_deadbeef'"):
        made.captioners("report", choice)


def test_controls_have_roles_and_names_of_their_own():
    hot = {"projector": "linear", "stage1_learning_rate": 0.3, "stage2_learning_rate": 0.1}
    made = study(controls={"hot": hot, "noise_features": "linear", "permuted_captions": "linear"})
    cells = {cell.role: cell for cell in made.controls}
    assert set(cells) == {"control_hot", "control_blind", "control_noise", "control_permuted"}
    assert all(cell.captioned == ("report",) for cell in cells.values())
    drawn = [cell for cell in made.controls if cell.role == "control_permuted"]
    assert [cell.run.seed for cell in drawn] == [1, 2, 3, 4, 5]
    assert {cell.run.seed for cell in made.controls if cell not in drawn} == {1}
    assert cells["control_hot"].run.stage1.learning_rate == 0.3
    assert cells["control_hot"].run.stage2.learning_rate == 0.1
    assert cells["control_blind"].run.projector == "constant_prefix"
    assert cells["control_noise"].run.sabotage == "noise_features"
    assert all(cell.run.stage2.epochs == 4 for cell in cells.values())
    # A spoiled stage 1 is never taken for a sound one.
    sound = {c.stage1_name for c in made.cells.values() if not c.role.startswith("control")}
    assert not sound & {cell.stage1_name for cell in cells.values()}


@pytest.mark.parametrize(
    ("seeds", "draws", "expected"),
    [
        ({"report": [1]}, 5, [1, 2, 3, 4, 5]),
        ({"report": [1, 2, 3]}, 2, [1, 2]),
        ({"report": [7, 3], "tuning": 9}, 5, [7, 3, 8, 10, 11]),
        ({"report": [1], "tuning": [2, 4]}, 3, [1, 3, 5]),
        ({"report": [1, 2, 3, 4, 5, 6]}, 5, [1, 2, 3, 4, 5]),
    ],
)
def test_captions_are_permuted_several_times_whatever_the_number_of_report_seeds(
    seeds, draws, expected
):
    made = study(seeds=seeds, controls={"permuted_captions": "linear", "permuted_draws": draws})
    drawn = [cell for cell in made.controls if cell.role == "control_permuted"]
    assert [cell.run.seed for cell in drawn] == expected
    assert len({cell.name for cell in drawn}) == len({c.stage1_name for c in drawn}) == draws


def test_an_untrained_projector_has_no_first_stage_and_shares_no_name():
    plain, made = study(), study(controls={"untrained_projector": "linear"})
    (cell,) = [cell for cell in made.controls if cell.role == "control_untrained"]
    assert cell.label == "untrained.linear" and not cell.has_stage1 and cell.run.seed == 1
    assert cell.run.stage2.epochs == 4 and cell.captioned == ("report",)
    assert made.stage1_cells.keys() == plain.stage1_cells.keys()
    assert set(made.cells) - set(plain.cells) == {cell.name}
    with pytest.raises(StudyError, match=r"controls\.untrained_projector names 'x'"):
        study(controls={"untrained_projector": "x"})


def test_stage_1_alone_is_a_captioner_of_the_chosen_cell_and_trains_nothing():
    plain, made = study(), study(controls={"stage1_alone": True})
    alone = set(made.cells) - set(plain.cells)
    # One a projector: points of one first stage share it.
    assert sorted(name.rpartition("_")[0] for name in alone) == [
        "stage1.linear",
        "stage1.query_abstractor",
    ]
    assert made.stage1_cells.keys() == plain.stage1_cells.keys()
    chosen = made.tuning[3].name
    choice = {"linear": {"report": chosen}}
    fresh = made.reported([chosen])[0]
    (cell,) = made.first_stages([chosen])
    assert (cell.name, cell.role) == (f"stage1.{fresh.stage1_name}", "control_stage1")
    assert cell.stage1_name == fresh.stage1_name and cell.captioned == ("report",)
    told = set(made.captioners("report", choice)) - set(plain.captioners("report", choice))
    assert told == {cell.name} == set(made.by_role(choice)["control_stage1"])


def test_each_point_is_trained_once_a_tuning_seed_and_afresh_once_a_report_seed():
    one, two = study(), study(seeds={"tuning": [0, 7], "report": [1, 2]})
    assert [[run.run.seed for run in runs] for runs in two.points] == [[0, 7]] * 8
    # The first run names the point; its fresh cells are those of one tuning seed.
    assert [runs[0].name for runs in two.points] == [cell.name for cell in one.tuning]
    chosen = two.points[3][0].name
    assert two.reported([chosen]) == one.reported([chosen])
    assert set(two.cells) - set(one.cells) == {second.name for _, second in two.points}
    assert two.captioners("tuning", {})[:2] == [run.name for run in two.points[0]]
    # Runs of a point share nothing: the second stage of each starts from a first stage of its own.
    assert len({run.stage1_name for run in two.points[0]}) == 2
    # A list of one is the number.
    assert study(seeds={"tuning": [0], "report": [1, 2]}).tuning == one.tuning


def test_one_run_in_two_roles_is_refused():
    # A projector under the control's own label, with the very settings of the control.
    same = {
        "projectors": {"blind": {"type": "constant_prefix"}},
        "seeds": {"tuning": 0, "report": [1]},
    }
    with pytest.raises(StudyError, match=r"appears twice \(report and control_blind\)") as error:
        _ = study(**same).cells
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_a_value_twice_on_an_axis_is_refused():
    with pytest.raises(StudyError, match="each once"):
        _ = study(grid={"learning_rate": [1e-3, "0.001"]}).cells


def test_one_projector_under_two_labels_is_two_sets_of_cells():
    made = study(projectors={"a": {"type": "linear"}, "b": {"type": "linear"}})
    assert len(made.cells) == len({cell.name for cell in made.cells.values()})


def test_names_are_safe_in_paths_patterns_and_shells():
    for name in study(controls={"noise_features": "linear"}).cells:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*_[0-9a-f]{8}", name)
    names = ["a.b_0123456f", "a-b_0123456f"]
    pattern = re.compile(cell_pattern(names))
    others = ["axb_0123456f", "a.b_0123456fa", "xa.b_0123456f", "a.b_1"]
    assert [n for n in [*names, *others] if pattern.fullmatch(n)] == names
    assert not re.compile(cell_pattern([])).fullmatch("")


@pytest.mark.parametrize(
    "model", ["../../etc/passwd", "/", "a/..", "모델", "org/na me$(x)", ".hidden"]
)
def test_a_models_name_cannot_leave_the_output_folder(model):
    made = study(vision={"model": model}, scorer={"model": model})
    for slug in (made.encoder_slug, made.scorer_slug):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", slug)


def test_no_two_things_share_a_path():
    paths = Paths("out")
    names = ["linear_00000000", "references", "retrieval"]
    runs = [paths.run(name) for name in names]
    assert len(set(runs)) == len(runs)
    assert paths.resume("a", [1]) != paths.resume("a", [2])
    assert all(path.is_relative_to("out") for path in runs)


def test_options_in_another_order_leave_the_text_of_every_parameter_as_it_is():
    """Snakemake compares parameters by their text."""
    assert keys_hash({"a": 1, "b": 2}) == keys_hash({"b": 2, "a": 1})
    options = {"queries": 16, "heads": 4}
    one, two = (
        study(projectors={"query_abstractor": {"options": dict(pairs)}})
        for pairs in (options.items(), reversed(options.items()))
    )
    assert [str(cell.run.model_dump()) for cell in one.cells.values()] == [
        str(cell.run.model_dump()) for cell in two.cells.values()
    ]
    assert list(one.cells) == list(two.cells)


def test_a_projector_may_have_budgets_of_its_own():
    made = study(
        projectors={"linear": {}, "slow": {"type": "mlp_2l", "epochs": [1]}},
        grid={"learning_rate": [1e-4, 1e-3], "epochs": [2, 4]},
    )
    budgets = {(cell.label, cell.run.stage2.epochs) for cell in made.tuning}
    assert budgets == {("linear", 2), ("linear", 4), ("slow", 1)}
    # Its schedule is that of its own budget, and naming the grid's budgets renames nothing.
    same = study(
        projectors={"linear": {"epochs": [2, 4]}},
        grid={"learning_rate": [1e-4, 1e-3], "epochs": [2, 4]},
    )
    own = [cell.name for cell in made.tuning if cell.label == "linear"]
    assert [cell.name for cell in same.tuning] == own


HALVED = {"data": {"root": "x", "splits": {"train": "train", "held_out": "val"}}}


def test_under_cross_fitting_every_cell_captions_both_halves_and_keeps_its_last_weights():
    made = study(**HALVED)
    for cell in [*made.tuning, *made.controls, *made.reported([made.tuning[0].name])]:
        assert cell.captioned == ("selection", "report")
        assert (cell.run.stage1.keep, cell.run.stage2.keep) == ("last", "last")
    for phase in PHASES:
        assert made.scored_splits(phase) == ("selection", "report")
        assert made.references(phase) == made.paths.run("references")


@pytest.mark.parametrize("data", [{"root": "x"}, {**HALVED["data"], "cross_fit": False}])
def test_separate_splits_go_on_as_they_did(data):
    made = study(data=data)
    assert {cell.run.stage1.keep for cell in made.tuning} == {"val_loss"}
    # Said or not, it is the same run; so is one of before this key had no default.
    said = study(data=data, stage1={"keep": "val_loss"})
    assert set(said.cells) == set(made.cells)
    assert "keep" not in made.tuning[0].run.stage1_keys().get("stage1", {})
    assert [made.scored_splits(phase) for phase in PHASES] == [("selection",), ("report",)]
    assert made.references("tuning") != made.references("report") == made.paths.run("references")


def test_halves_that_agree_share_their_fresh_cells_and_others_are_joined():
    made = study(**HALVED)
    linear, other = made.tuning[0].name, made.tuning[1].name
    abstractor = next(cell.name for cell in made.tuning if cell.label == "query_abstractor")
    choice = {
        "linear": {"selection": linear, "report": other},
        "query_abstractor": dict.fromkeys(("selection", "report"), abstractor),
    }
    assert chosen_cells(choice) == [linear, other, abstractor]
    entrants = made.entrants(choice)
    assert [entrant.name for entrant in entrants[:2]] == ["linear.seed1", "linear.seed2"]
    assert [entrant.is_joined for entrant in entrants] == [True, True, False, False]
    fresh = {cell.name: cell for cell in made.reported(chosen_cells(choice))}
    assert len(fresh) == 6
    for entrant in entrants:
        seeds = {fresh[name].run.seed for name in entrant.parts.values()}
        assert len(seeds) == 1 and set(entrant.parts.values()) <= set(fresh)
        if not entrant.is_joined:
            assert entrant.name in fresh
    # A half is reported by the fresh runs of the cell that the other half chose.
    for half in ("selection", "report"):
        cells = [fresh[entrant.parts[half]] for entrant in entrants if entrant.label == "linear"]
        assert {cell.run.stage2 for cell in cells} == {
            made.cells[choice["linear"][half]].run.stage2
        }
    # Every fresh run is scored, on both halves; what two are together is no run.
    assert made.captioners("tuning", {}) == [*(cell.name for cell in made.tuning), "references"]
    scored = made.captioners("report", choice)
    assert set(fresh) <= set(scored) and "linear.seed1" not in scored
    assert made.by_role(choice)["report"] == [entrant.name for entrant in entrants]
