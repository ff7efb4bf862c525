"""Every mistake in a config is one sentence that names the file, the key and a way out."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from siglip_study.base.errors import StudyError
from siglip_study.config import axes, load, parse, plain_config
from siglip_study.config.study import Config
from siglip_study.study import Study


def minimal(**changes):
    return {"data": {"root": "somewhere"}, "projectors": {"linear": {}}, **changes}


def complaint(raw, source="study.yaml"):
    with pytest.raises(StudyError) as error:
        parse(raw, source)
    message = str(error.value)
    assert message.startswith(f"{source}: ")
    assert message[-1] in ".?!" and "\n" not in message
    assert "Error" not in message and "pydantic" not in message
    return message


CONFIGS = Path(__file__).parents[2] / "config"
HALVED = {"root": "x", "splits": {"train": "train", "held_out": "val"}}
STAGE = {"projector": "linear", "stage1": {}, "stage2": {}}


@pytest.mark.parametrize(
    ("raw", "key", "near"),
    [
        ({"projector": {}}, "projector", "projectors"),
        ({"data": {"root": "x", "layuot": "a"}}, "data.layuot", "layout"),
        ({"llm": {"quantisation": "nf4"}}, "llm.quantisation", "quantization"),
        ({"llm": {"lora": {"rank": 3, "alfa": 1}}}, "llm.lora.rank", None),
        ({"llm": {"lora": {"alfa": 1}}}, "llm.lora.alfa", "alpha"),
        ({"stage1": {"epoch": 1}}, "stage1.epoch", "epochs"),
        ({"stage1": {"early_stopping": {"patient": 1}}}, "early_stopping.patient", "patience"),
        ({"projectors": {"linear": {"option": {}}}}, "projectors.linear.option", "options"),
        ({"projectors": {"options": {"typ": "linear"}}}, "projectors.options.typ", "type"),
        ({"presets": {"E1": {**STAGE, "stage1": {"epoch": 1}}}}, "E1.stage1.epoch", "epochs"),
        ({"presets": {"seed": {**STAGE, "sead": 1}}}, "presets.seed.sead", "seed"),
        ({"controls": {"hot": {"projecter": "linear"}}}, "controls.hot", "projector"),
        ({"demo": {"trian": 3}}, "demo.trian", "train"),
    ],
)
def test_an_unknown_key_names_the_nearest(raw, key, near):
    message = complaint(minimal(**raw))
    assert key in message
    if near:
        assert near in message


@pytest.mark.parametrize(
    ("raw", "key", "found"),
    [
        ({"stage1": {"learning_rate": "fast"}}, "stage1.learning_rate", "fast"),
        ({"stage1": {"learning_rate": 0}}, "stage1.learning_rate", "0"),
        ({"stage1": {"learning_rate": float("inf")}}, "stage1.learning_rate", "inf"),
        ({"stage1": {"learning_rate": float("nan")}}, "stage1.learning_rate", "nan"),
        ({"stage1": {"learning_rate": None}}, "stage1.learning_rate", "None"),
        ({"stage1": {"epochs": 0}}, "stage1.epochs", "0"),
        ({"stage1": {"epochs": 1.5}}, "stage1.epochs", "1.5"),
        ({"stage1": {"keep": "best"}}, "stage1.keep", "best"),
        ({"stage1": []}, "stage1", "[]"),
        ({"llm": {"quantization": "int8"}}, "llm.quantization", "int8"),
        ({"llm": {"vision_markers": ["<a>"]}}, "llm.vision_markers", ""),
        ({"grid": {"epochs": []}}, "grid.epochs", "[]"),
        ({"grid": {"learning_rate": 1e-3}}, "grid.learning_rate", "0.001"),
        ({"grid": {"learning_rate": [1e-3, -1]}}, "grid.learning_rate.1", "-1"),
        ({"projectors": {}}, "projectors", "{}"),
        ({"projectors": {"../x": {}}}, "projectors", "../x"),
        ({"projectors": {"a b": {}}}, "projectors", "a b"),
        ({"projectors": {"linear\n": {}}}, "projectors", "linear"),
        ({"projectors": {3: {}}}, "projectors", "3"),
        ({"projectors": {"": {}}}, "projectors", "''"),
        ({"seeds": {"tuning": 1, "report": [1, 2]}}, "seeds", "tuning seed"),
        ({"seeds": {"report": [1, 1]}}, "seeds", "differ"),
        ({"seeds": {"tuning": [0, 2], "report": [1, 2]}}, "seeds", "tuning seeds"),
        ({"seeds": {"tuning": [0, 0], "report": [1]}}, "seeds", "tuning must hold seeds that"),
        ({"seeds": {"tuning": []}}, "seeds.tuning", "a list of them"),
        ({"seeds": {"tuning": [0, "often"]}}, "seeds.tuning", "often"),
        ({"data": {}}, "data.root", "missing"),
        ({"data": {"root": "x", "splits": {"train": "a"}}}, "data.splits", "held_out"),
        ({"data": {"root": "x", "splits": {"trian": "a"}}}, "data.splits", "trian"),
        ({"data": HALVED, "stage1": {"keep": "val_loss"}}, "stage1.keep", "data.cross_fit: false"),
        ({"data": HALVED, "stage2": {"early_stopping": {}}}, "stage2.early_stopping", "held_out"),
        (
            {"data": {"root": "x", "decoder": "decord"}, "vision": {"frames_per_second": 1}},
            "data.decoder",
            "pyav",
        ),
        ({"controls": {"noise_features": "mlp"}}, "controls.noise_features", "linear"),
        ({"controls": {"hot": {"projector": "linear"}}}, "controls.hot.stage1", "missing"),
        ({"presets": {"E1": {**STAGE, "projector": "mlp"}}}, "presets.E1.projector", "linear"),
        ({"stage2": {"learning_rate": 1e-3}}, "stage2.learning_rate", "grid.learning_rate"),
        ({"stage2": {"epochs": 4}}, "stage2.epochs", "grid.epochs"),
        ({"controls": {"permuted_draws": 1}}, "controls.permuted_draws", "1"),
        ({"runtime": {"cpu_threads": 2}}, "runtime", "expected device: cpu"),
        ({"runtime": {"keep_loaded_s": float("inf")}}, "runtime.keep_loaded_s", "a finite number"),
        ({"vision": {"layer": True}}, "vision.layer", "a whole number or two that differ"),
        ({"vision": {"layer": [-1, -2000]}}, "vision.layer", "between -1000 and 1000"),
        ({"seeds": {"tuning": [2**63]}}, "seeds.tuning", "0 to 2**63 - 1"),
        ({"seeds": {"tuning": [*range(9, 2000)]}}, "seeds.tuning", "1000 at most"),
        ({"projectors": {"linear": {"options": {"x": [float("nan")]}}}}, "options", "finite"),
        ({"grid": {"llm.lora.r": [*range(1, 1002)]}}, "grid.llm.lora.r", "1000 at most"),
        ({"grid": {"exclude": [{"options.x": float("nan")}]}}, "grid.exclude.0", "finite numbers"),
        ({1: 2}, "1", ""),
    ],
)
def test_a_wrong_value_is_named_with_its_key(raw, key, found):
    message = complaint({**minimal(), **raw})
    assert key in message and found in message


def numbers(schema, path=""):
    """Path of every number in a JSON schema, with what the schema says of it."""
    if isinstance(schema, list):
        schema = dict(enumerate(schema))
    if not isinstance(schema, dict):
        return
    if schema.get("type") in ("integer", "number"):
        yield path, schema
    for key, inner in schema.items():
        yield from numbers(inner, f"{path}/{key}")


def test_every_number_of_the_config_has_an_upper_and_a_lower_bound():
    found = dict(numbers(Config.model_json_schema()))
    assert len(found) > 60
    for most in ("aximum", "inimum"):
        assert not [
            path for path, own in found.items() if not any(key.endswith(most) for key in own)
        ]


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        # Of each axis 29 or 28 values; a tuning seed and three report seeds.
        ({"grid": {"stage1.epochs": [*range(1, 30)], "epochs": [*range(1, 29)]}}, 29 * 28 * 2 * 4),
        (
            {
                "grid": {
                    "stage1": [{"epochs": n, "batch_size": n} for n in range(1, 20)],
                    "include": [{"stage1.epochs": 50, "stage1.batch_size": 1}],
                },
                "seeds": {"tuning": [0, 4], "report": [1]},
                "controls": {"permuted_captions": "linear", "permuted_draws": 9},
            },
            (19 * 2 + 2) * 3 + 9,
        ),
    ],
)
def test_a_grid_of_too_many_cells_is_refused_before_it_is_expanded(monkeypatch, changes, cells):
    raw = minimal(**changes)
    raw["controls"] = {"blind_trained": False, **raw.get("controls", {})}
    assert len(Study(parse(raw)).cells) == cells
    monkeypatch.setattr(axes, "_MOST_CELLS", cells)
    parse(raw)
    monkeypatch.setattr(axes, "_MOST_CELLS", cells - 1)
    monkeypatch.setattr(axes, "points", None)
    assert f"grid has more than {cells - 1:,} cells" in complaint(raw)


def test_nothing_at_all_names_what_is_missing():
    assert "projectors" in complaint({})


def test_numeric_strings_are_numbers():
    """YAML 1.1 reads 1e-3, without a point, as text."""
    raw = yaml.safe_load("learning_rate: 1e-3\nepochs: '3'\nwarmup_ratio: 1e-1")
    assert raw["learning_rate"] == "1e-3"
    stage = parse(minimal(stage1=raw)).stage1
    assert (stage.learning_rate, stage.epochs, stage.warmup_ratio) == (1e-3, 3, 0.1)
    grid = parse(minimal(grid={"learning_rate": ["2e-5"]})).grid
    assert grid.learning_rate == (2e-5,)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such config file"),
        ("a: [", "not readable as YAML"),
        ("- a\n- b\n", "found list"),
        ("", "found NoneType"),
        ("just text", "found str"),
        ("a: \x00", "not readable as YAML"),
        ("title: 제목".encode("cp949"), "not UTF-8.*expected YAML saved as UTF-8"),
        (Path, "cannot be read"),
    ],
)
def test_a_file_that_is_no_config_is_one_sentence(tmp_path, content, says):
    path = tmp_path / "study.yaml"
    if content is Path:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StudyError, match=says) as error:
        load(path)
    message = str(error.value)
    assert str(path) in message and message.endswith(".") and "\n" not in message


def test_a_valid_file_is_read(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(minimal(llm={"prompt": "이건 뭐죠?"}), allow_unicode=True))
    config = load(path)
    assert config.llm.prompt == "이건 뭐죠?" and str(config.data_root) == "somewhere"
    with pytest.raises(Exception, match="frozen"):
        config.llm.prompt = "x"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_the_report_prints_is_the_same_study_again(path):
    config = load(path)
    printed = yaml.safe_dump(plain_config(config), allow_unicode=True, sort_keys=False)
    again = parse(yaml.safe_load(printed))
    assert again.model_dump() == config.model_dump()
    mine, theirs = Study(config), Study(again)
    assert mine.tuning and theirs.tuning == mine.tuning and theirs.controls == mine.controls


def test_reading_a_config_imports_nothing_heavy():
    code = (
        "import sys; import siglip_study.config, siglip_study.study.grid, siglip_study.base.io; "
        "import siglip_study.study.progress, siglip_study.study.versions; "
        "import siglip_study.data.fingerprint; "
        "print(sorted({'torch', 'transformers', 'polars', 'peft', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unexchanged_half_may_choose_weights():
    raw = {"projectors": {"linear": {}}, "data": HALVED}
    assert parse(raw).cross_fit
    apart = {**raw, "data": {**HALVED, "cross_fit": False}, "stage1": {"keep": "val_loss"}}
    assert not parse(apart).cross_fit
    assert not parse({**raw, "data": {"root": "x"}}).cross_fit


PLAIN = {"data": {"root": "clips"}, "projectors": {"linear": {}}}


def test_the_home_folder_is_written_as_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    models = {name: {"model": f"~/{name}"} for name in ("vision", "llm", "scorer")}
    config = parse({**PLAIN, **models, "output_dir": "~/out", "data": {"root": "~/클립"}})
    found = [getattr(config, name).model for name in models]
    assert found == [str(tmp_path / name) for name in models]
    assert (config.output_dir, config.data_root) == (str(tmp_path / "out"), tmp_path / "클립")


def test_braces_in_the_output_folder_are_refused():
    with pytest.raises(StudyError, match=r"output_dir.*braces"):
        parse({**PLAIN, "output_dir": "results/{a}"})


def test_decord_is_held_to_every_number_of_frames_that_is_read():
    raw = {"projectors": {"linear": {}}, "vision": {"frames": 6}, "scorer": {"frames": 4}}
    raw |= {"report": {"gallery_frames": 4}}
    asked = {d: parse({**raw, "data": {"root": "x", "decoder": d}}) for d in ("pyav", "decord")}
    assert asked["decord"].sampled_frames == (4, 6)
    assert len(asked["pyav"].sampled_frames) == 1  # whatever is read: no clip is read again for it
