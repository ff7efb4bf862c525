"""Any key that a training depends on is an axis of the grid; a mistake is one sentence."""

from typing import Any

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.config import parse
from siglip_study.config.axes import having, points, told_value

GRID = {"learning_rate": [2e-5], "epochs": [3]}


def config(grid: dict[str, Any], **changes: Any) -> Any:
    raw = {"data": {"root": "x"}, "projectors": {"linear": {}, "mlp_2l": {}}}
    return parse({**raw, "grid": {**GRID, **grid}, **changes}, "mine.yaml")


def told(made: Any, label: str = "linear") -> list[str]:
    return [
        " · ".join(told_value(k, v) for k, v in point.items() if not k.startswith("stage2.e"))
        for point in points(made, label)
    ]


def test_axes_are_crossed_and_values_have_the_types_of_their_keys():
    made = config({"llm.lora.r": [8, "16"], "vision.layer": [-2, -1]})
    assert told(made) == told(made, "mlp_2l")
    assert told(made) == [f"r {r} · layer {layer} · lr 2e-5" for r in (8, 16) for layer in (-2, -1)]
    assert {type(point["llm.lora.r"]) for point in points(made, "linear")} == {int}


def test_keys_of_a_mapping_change_together():
    made = config({"llm.lora": [{"r": 8, "alpha": 16}, {"r": 16, "alpha": 32}]})
    assert told(made) == ["r 8 · alpha 16 · lr 2e-5", "r 16 · alpha 32 · lr 2e-5"]
    # What a mapping does not name stays as configured.
    assert having(made, points(made, "linear")[0]).llm.lora.dropout == made.llm.lora.dropout


def test_points_are_left_out_and_added():
    made = config(
        {
            "llm.lora.r": [8, 16],
            "exclude": [{"projector": "linear", "llm.lora.r": 16}],
            "include": [{"llm.lora": {"r": 64, "alpha": 128}, "learning_rate": "1e-5"}],
        }
    )
    added = "r 64 · alpha 128 · lr 1e-5"
    assert told(made) == ["r 8 · lr 2e-5", added]
    assert told(made, "mlp_2l") == ["r 8 · lr 2e-5", "r 16 · lr 2e-5", added]
    # An entry has every value of the axes that it does not name.
    several = config({"learning_rate": [1e-5, 2e-5], "include": [{"llm.lora.r": 64}]})
    assert told(several)[2:] == ["lr 1e-5 · r 64", "lr 2e-5 · r 64"]


def test_a_projector_may_have_axes_and_options_of_its_own():
    own = {"type": "mlp_2l", "grid": {"llm.lora.r": [64], "options.hidden": [32, 64]}}
    made = config({"llm.lora.r": [8]}, projectors={"linear": {}, "wide": own})
    assert told(made) == ["r 8 · lr 2e-5"]
    assert told(made, "wide") == [f"r 64 · lr 2e-5 · hidden {hidden}" for hidden in (32, 64)]


def test_another_model_is_not_taken_at_the_commit_of_the_first():
    made = config({"vision.model": ["a/b", "c/d"]}, vision={"model": "a/b", "revision": "f00"})
    pins = [having(made, point).vision.revision for point in points(made, "linear")]
    assert pins == ["f00", None]


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"llm.lora.r": [0, 8]}, "grid: llm.lora.r is 0; expected at least 1."),
        ({"llm.lora.rr": [8]}, "grid: unknown key 'llm.lora.rr'; did you mean 'r'?"),
        ({"llm.lora.r": 8}, "grid.llm.lora.r is 8; expected a list."),
        ({"llm.lora.r": [8, 8]}, "grid.llm.lora.r is [8, 8]; expected one at least, and each"),
        ({"llm.lora.r": [8, "8"]}, "grid has linear · r 8 · lr 2e-5 · epochs 3 twice; expected"),
        ({"captions.shuffles": [1, 2]}, "grid names captions.shuffles, on which no training"),
        ({"learning_rat": [1e-3]}, "grid names learning_rat, on which no training depends"),
        ({"options.hidden": [3]}, "grid names options.hidden, on which no training depends"),
        ({"stage2.epochs": [1]}, "grid names stage2.epochs; expected it as epochs."),
        ({"llm.lora.r": [8], "llm.lora": [{"r": 4}]}, "grid has llm.lora.r on two axes"),
        ({"vision": [5]}, "grid: vision is 5; expected a mapping of keys."),
        ({"exclude": [{"llm.lora.r": 9}]}, "grid.exclude.0 leaves out nothing; expected points"),
        ({"exclude": [{"epochs": 3}]}, "grid.exclude leaves no point to linear; expected one"),
        ({"exclude": [{"projector": []}]}, "grid.exclude.0.projector is []; expected one of"),
        ({"exclude": [{"projector": "x"}]}, "grid.exclude.0.projector is 'x'; expected one of"),
        ({"include": [{"epochs": "long"}]}, "grid.include.0: epochs is 'long'; expected a whole"),
        ({"include": [{"epochs": 3}]}, "grid has linear · lr 2e-5 · epochs 3 twice; expected"),
    ],
)
def test_a_mistake_is_a_sentence_that_names_key_and_value(grid, says):
    with pytest.raises(StudyError) as error:
        config(grid)
    assert str(error.value).startswith(f"mine.yaml: {says}")
    assert "\n" not in str(error.value) and str(error.value)[-1] in ".?"


def test_a_mistake_in_a_grid_of_its_own_names_the_projector():
    with pytest.raises(StudyError, match=r"^mine.yaml: projectors\.x\.grid: llm\.lora\.r is 0;"):
        config({}, projectors={"x": {"type": "linear", "grid": {"llm.lora.r": [0]}}})


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("llm.lora.r", 16, "r 16"),
        ("stage2.learning_rate", 2.5e-5, "lr 2.5e-5"),
        ("stage1.learning_rate", 1e-3, "stage1.learning_rate 0.001"),
        ("llm.model", "Qwen/Qwen3-8B", "llm.model Qwen3-8B"),
        ("llm.lora.dora", True, "dora on"),
        ("stage1.early_stopping", None, "stage1.early_stopping none"),
        ("llm.lora.targets", ("q_proj", "v_proj"), "targets q_proj, v_proj"),
        ("llm.prompt", "a\n" + "x" * 99, f"prompt a {'x' * 45}…"),
    ],
)
def test_settings_are_short_where_people_read_them(key, value, text):
    assert told_value(key, value) == text
