"""A stage killed anywhere and started again ends with the bits of one left alone."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from siglip_study.base import io
from siglip_study.base.io import read_json, remove_dir, write_json
from siglip_study.training import resume as module
from siglip_study.training.resume import Position, ResumePoint
from tools.fault_campaign import DAMAGES, cut

CALLS = 2 * 5 + 2 * 1  # forward passes of two epochs of ten clips, and their validations


@pytest.fixture
def fragile(make_clips, features, killed):
    """Training and selection clips whose features kill the run at the k-th call."""

    def build(k):
        calls = itertools.count()

        class Fragile:
            @staticmethod
            def batch(ids):
                if next(calls) >= k:
                    raise killed
                return features.batch(ids)

        return make_clips(10, source=Fragile), make_clips(3, start=100, source=Fragile)

    return build


def bits(model, position):
    """Everything a stage ends with that must repeat: weights, and history without clocks."""
    history = [
        {k: v for k, v in row.items() if k != "seconds"}
        for row in [*position.steps, *position.epochs]
    ]
    return {name: p.detach().clone() for name, p in model.trainable().items()}, history


def assert_same(found, expected):
    assert found[1] == expected[1]
    assert found[0].keys() == expected[0].keys()
    for name, weight in expected[0].items():
        assert torch.equal(found[0][name], weight), name


@pytest.fixture
def stage(make_model, train, llm_config):
    """Run the second stage on a new model, whatever was done of it before; its bits.

    Adapters have dropout: its draws must repeat too.
    """
    lora = llm_config.lora.model_copy(update={"dropout": 0.3})
    config = llm_config.model_copy(update={"lora": lora})

    def run(*clips, change=lambda model: None, **options):
        model = make_model(lora=True, config=config)
        change(model)
        return bits(model, train(model, *clips, number=2, **options))

    return run


@pytest.fixture
def undisturbed(stage):
    return stage(resume="undisturbed")


def test_dropout_is_really_on(make_model, train, undisturbed):
    model = make_model(lora=True)
    assert bits(model, train(model, number=2))[1] != undisturbed[1]


@pytest.mark.parametrize("pace", [0.0, 1e9], ids=["saved every step", "saved every epoch"])
@pytest.mark.parametrize("k", [0, 1, 4, 5, 6, 7, 10, 11])
def test_killed_and_resumed_is_bit_identical(stage, fragile, killed, undisturbed, pace, k):
    with pytest.raises(killed):
        stage(*fragile(k), pace=pace)
    torch.rand(17)  # whatever state the generator was left in
    assert_same(stage(pace=pace), undisturbed)


def test_killed_again_and_again(stage, fragile, killed, undisturbed):
    deaths, end = 0, None
    while end is None:
        try:
            end = stage(*fragile(3), pace=0.0)
        except killed:
            deaths += 1
            assert deaths < CALLS
    assert deaths >= 3
    assert_same(end, undisturbed)


def test_the_best_epochs_weights_survive_a_kill(make_model, train, fragile, killed, script):
    """The best epoch is over before the kill, and what comes after it is worse."""
    script(1.0, 2.0)
    model = make_model()
    expected = bits(model, train(model, resume="whole", keep="val_loss"))
    script(1.0)
    with pytest.raises(killed):
        train(make_model(), fragile(7)[0], keep="val_loss")
    script(2.0)
    model = make_model()
    position = train(model, keep="val_loss")
    assert position.best_epoch == 1
    assert_same(bits(model, position), expected)


@pytest.mark.parametrize("where", ["save_file", "write_json", "rmtree"])
def test_killed_while_saving(stage, killed, undisturbed, monkeypatch, where):
    holder = io.shutil if where == "rmtree" else module
    calls, real = itertools.count(), getattr(holder, where)

    def dying(*args, **kwargs):
        if next(calls) == 2:
            raise killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(holder, where, dying)
        with pytest.raises(killed):
            stage(pace=0.0)
    assert_same(stage(pace=0.0), undisturbed)


def test_a_finished_stage_is_taken_as_it_is(stage, undisturbed):
    """Killed between the last save and the checkpoint: no step is taken twice."""

    @torch.no_grad()
    def spoil(model):
        for parameter in model.trainable().values():
            parameter.normal_()

    assert_same(stage(resume="undisturbed", change=spoil), undisturbed)


def test_a_finished_stage_holds_the_weights_that_it_keeps_alone(stage, undisturbed, tmp_path):
    """No optimizer and no weights of other epochs: nothing would read them."""
    point = tmp_path / "undisturbed" / "step-00000006" / "state.safetensors"
    held = {name for name in load_file(point) if not name.startswith("buffer/")}
    assert held == {f"param/{name}" for name in undisturbed[0]}


def test_half_written_folders_are_ignored(stage, undisturbed, tmp_path):
    for name in (".step-00000099.123.partial", ".step-00000098.dropped"):
        (tmp_path / "resume" / name).mkdir(parents=True)
        (tmp_path / "resume" / name / "state.json").write_text("{")
    assert_same(stage(), undisturbed)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_damaged_point_is_dropped_and_said(
    stage, killed, undisturbed, tmp_path, caplog, damage, name
):
    with pytest.raises(killed):
        stage(pace=0.0, dies=1)
    [point] = (tmp_path / "resume").glob("step-*")
    damage(point / name)
    assert_same(stage(), undisturbed)
    assert "Training starts afresh" in caplog.text


def test_a_digit_that_turned_in_a_points_position_is_seen(tmp_path, caplog):
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    optimizer = torch.optim.AdamW(weights.values())
    point = module.ResumePoint(tmp_path, "same")
    point.save(module.Position(step=3), weights, {}, optimizer, {})
    state = tmp_path / "step-00000003/state.json"
    state.write_text(state.read_text("utf-8").replace('"step": 3', '"step": 2'), "utf-8")
    assert point.load(weights, {}, optimizer)[0].step == 0
    assert "state.json: damaged" in caplog.text and "Training starts afresh" in caplog.text


def test_a_point_of_another_origin_is_dropped_and_said(tmp_path, caplog):
    before, after = (module.ResumePoint(tmp_path, origin) for origin in ("before", "after"))
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    optimizer = torch.optim.AdamW(weights.values())
    before.save(module.Position(step=3), weights, {}, optimizer, {})
    assert before.load(weights, {}, optimizer)[0].step == 3
    assert after.load(weights, {}, optimizer)[0].step == 0
    assert "features" in caplog.text and "Training starts afresh" in caplog.text


@pytest.mark.parametrize("newer", ["an empty folder", "cut", "of another version"])
def test_the_newest_whole_point_counts(tmp_path, caplog, newer):
    """Killed between the rename of a new point and the removal of the one before."""
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    optimizer = torch.optim.AdamW(weights.values())
    ResumePoint(tmp_path / "9").save(Position(step=9), weights, {}, optimizer, {})
    points = ResumePoint(tmp_path / "all")
    points.save(Position(step=7), weights, {}, optimizer, {})
    new = tmp_path / "all/step-00000009"
    (tmp_path / "9/step-00000009").rename(new)
    if newer == "cut":
        cut(new / "state.safetensors")
    elif newer == "of another version":
        state = read_json(new / "state.json", "resume/2")
        write_json(new / "state.json", state | {"position": {"steps_taken": 9}}, "resume/2")
    else:
        remove_dir(new)
        new.mkdir()
    assert points.load(weights, {}, optimizer)[0].step == 7
    assert "The point before it counts." in caplog.text
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["step-00000007"]


def test_one_point_is_kept(make_model, train, tmp_path):
    train(make_model(), pace=0.0)
    [point] = (tmp_path / "resume").iterdir()
    assert point.name == "step-00000006"
    assert {path.suffix for path in point.iterdir()} == {".safetensors", ".json", ".sha256"}


def test_a_folder_whose_removal_was_interrupted_does_not_mislead(
    make_model, train, killed, tmp_path, monkeypatch
):
    def half(path, **_):
        if Path(path).exists():
            next(Path(path).rglob("*.json")).unlink()
            raise killed

    train(make_model())
    with monkeypatch.context() as patch:
        patch.setattr(io.shutil, "rmtree", half)
        with pytest.raises(killed):
            io.remove_dir(tmp_path / "resume")
    assert train(make_model()).step == 6


def test_the_number_of_threads_is_that_of_the_first_life(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    other = torch.get_num_threads() + 1
    ResumePoint(tmp_path).save(Position(threads=other), {}, {}, optimizer, {})
    assert ResumePoint(tmp_path).load({}, {}, optimizer)[0].threads == other
