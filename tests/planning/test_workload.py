"""What the grid asks for, counted by hand on small grids."""

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.planning.estimate import Forecast
from siglip_study.planning.workload import (
    Assumptions,
    Dataset,
    Workload,
    describe_dataset,
)
from siglip_study.study import Study


def described(config, tokenizer=None, **given):
    return describe_dataset(config, tokenizer, Assumptions(**given), Forecast(config).scan)


def counted(config, presets=False, **clips):
    dataset = Dataset({"train": 20, "selection": 6, "report": 6} | clips, (10, 20), ())
    return Workload(Study(config), dataset, presets)


def steps(workload, stage, type_):
    return sum(
        n for s, n in workload.steps.items() if s.stage == stage and s.connector.type == type_
    )


def test_steps_of_a_small_grid_by_hand(study):
    config = study(controls={"blind_trained": True, "noise_features": "linear"})
    workload = counted(config)
    # 4 clips a step: 5 steps an epoch. Per projector: 4 tuning cells share a first stage, 3 report
    # seeds have one each; the noise control is a linear run more.
    assert steps(workload, 1, "query_abstractor") == (1 + 3) * 2 * 5
    assert steps(workload, 1, "linear") == (1 + 3 + 1) * 2 * 5
    assert steps(workload, 1, "constant_prefix") == 2 * 5
    # Tuning: rates × (1 + 3 epochs); the chosen cells and controls are taken at 3 epochs.
    assert steps(workload, 2, "query_abstractor") == (2 * (1 + 3) + 3 * 3) * 5
    assert steps(workload, 2, "linear") == (2 * (1 + 3) + 3 * 3 + 3) * 5
    assert steps(workload, 2, "constant_prefix") == 3 * 5
    assert workload.jobs == (4 + 5 + 1) + (7 + 8 + 1)
    # An incomplete last step is a step.
    assert steps(counted(config, train=21), 1, "query_abstractor") == (1 + 3) * 2 * 6


def test_a_second_tuning_seed_trains_and_captions_the_grid_again(study):
    controls = {"blind_trained": False}
    one = counted(study(controls=controls, seeds={"tuning": 0, "report": [1, 2, 3]}))
    two = counted(study(controls=controls, seeds={"tuning": [0, 9], "report": [1, 2, 3]}))
    assert steps(two, 1, "linear") - steps(one, 1, "linear") == 2 * 5
    assert steps(two, 2, "linear") - steps(one, 2, "linear") == 2 * (1 + 3) * 5
    assert two.jobs - one.jobs == 2 * (1 + 4)
    assert two.scored_captions - one.scored_captions == 2 * 4 * 6


@pytest.mark.parametrize(("report", "draws"), [([1], 5), ([1, 2, 3], 5), ([1, 2], 7)])
def test_every_draw_of_permuted_captions_is_counted(study, report, draws):
    controls = {"blind_trained": False, "permuted_captions": "linear", "permuted_draws": draws}
    plain = counted(study(controls={"blind_trained": False}, seeds={"report": report}))
    drawn = counted(study(controls=controls, seeds={"report": report}))
    assert drawn.jobs - plain.jobs == 2 * draws
    assert steps(drawn, 1, "linear") - steps(plain, 1, "linear") == draws * 2 * 5
    assert steps(drawn, 2, "linear") - steps(plain, 2, "linear") == draws * 3 * 5
    assert drawn.scored_captions - plain.scored_captions == draws * 6


def test_clips_and_captions_by_hand(study):
    config = study(controls={"blind_trained": True})
    workload = counted(config, selection=6, report=5)
    assert workload.encoded_clips == 31 and workload.scored_clips == 11
    # Per projector 4 tuning cells caption the 6, 3 report cells the 5; the control the 5.
    assert sum(workload.captions.values()) == 2 * (4 * 6 + 3 * 5) + 5
    # References on both splits; retrieval and two adversaries on one, chosen among the 20 of train.
    assert workload.scored_captions == 83 + (6 + 5) + 3 * 5 + 20
    epochs = 2 * ((1 + 3) * 2 + 2 * (1 + 3) + 3 * 3) + (2 + 3)
    assert sum(workload.validation.values()) == epochs * 6
    assert sum(workload.quick_captions.values()) == epochs * 3


def test_an_untrained_projector_has_a_second_stage_only(study):
    plain = counted(study(), selection=6, report=5)
    more = counted(study(controls={"untrained_projector": "linear"}), selection=6, report=5)
    assert len(more.cells) == len(plain.cells) + 1
    assert len(more.stage1_cells) == len(plain.stage1_cells)


@pytest.mark.parametrize("cross_fit", [False, True])
def test_a_first_stage_alone_captions_and_trains_nothing(study, cross_fit):
    splits = {"train": "train", "held_out": "val"}
    halves = {"demo": None, "data": {"root": "none", "splits": splits}} if cross_fit else {}
    plain = counted(study(**halves), selection=6, report=5)
    alone = counted(study(**halves, controls={"stage1_alone": True}), selection=6, report=5)
    assert (alone.steps, alone.validation) == (plain.steps, plain.validation)
    # One of each of two projectors, on the clips that report it.
    more = 2 * (6 + 5 if cross_fit else 5)
    assert sum(alone.captions.values()) - sum(plain.captions.values()) == more
    assert alone.scored_captions - plain.scored_captions == more
    assert alone.jobs - plain.jobs == 2


def test_presets_count_only_when_asked_for(study):
    stage = {"epochs": 1, "batch_size": 4}
    preset = {"projector": "linear", "stage1": stage, "stage2": stage}
    config = study(presets={"E1": preset})
    without, with_ = counted(config), counted(config, presets=True)
    assert len(with_.cells) == len(without.cells) + 1
    shapes = set(with_.steps) - set(without.steps)
    assert {(s.stage, s.batch, s.accumulation) for s in shapes} == {(1, 4, 2), (2, 4, 2)}


def test_parts_of_a_study_on_axes_add_up_and_share_what_is_made_once(study):
    axes = {"llm.lora.r": [2, 4], "vision.layer": [-2, -1]}
    grid = {"learning_rate": [1e-3], "epochs": [1]}
    forecast = Forecast(study(grid={**grid, **axes}), Assumptions(train=20, held_out=12))
    told = [part.told for part in forecast.parts]
    assert told == [f"r {r} · layer {layer}" for r in (2, 4) for layer in (-2, -1)]
    works = [part.workload for part in forecast.parts]
    # Each of 2 projectors: 4 tuning cells, and the chosen one with 3 seeds; one control.
    assert sum(len(work.cells) for work in works) == 2 * (4 + 3) + 1
    one = Forecast(study(grid=grid), Assumptions(train=20, held_out=12))
    # Ranks share first stages, and clips are encoded once a layer.
    first = {cell.stage1_name for work in works for cell in work.stage1_cells}
    assert {cell.stage1_name for cell in forecast.study.tuning} <= first
    assert sum(len(work.stage1_cells) for work in works) == len(first)
    assert [part.encodes for part in forecast.parts] == [True, True, False, False]
    assert forecast.disk().features == 2 * one.disk().features


def test_labels_that_build_the_same_projector_share_their_shape(study):
    config = study(projectors={"a": {"type": "linear"}, "b": {"type": "linear"}, "linear": {}})
    workload = counted(config)
    assert [c.type for c in workload.connectors] == ["linear", "constant_prefix"]
    assert list(workload.connectors.values()) == ["a", "blind"]


def test_a_dataset_is_counted_where_it_is(study, dataset):
    root = dataset(clips=3)
    found = described(study(data={"root": str(root)}, demo=None))
    assert found.clips == {"train": 3, "selection": 3, "report": 3}
    assert f"counted in {root}" in found.sources[0]
    assert "characters of 9 captions" in found.sources[1]


def test_captions_are_tokenised_where_the_tokenizer_is_at_hand(study, dataset):
    config = study(data={"root": str(dataset(clips=2))}, demo=None)
    tokenizer = Forecast(config).tokenizer
    found = described(config, tokenizer)
    by_hand = [len(tokenizer(f"빨간 공이 {i}번 굴러간다.")["input_ids"]) + 1 for i in (0, 1)]
    assert found.lengths == tuple(sorted(by_hand * 3)) and "tokenised" in found.sources[1]


def test_a_held_out_split_is_halved(study, dataset):
    root = dataset(clips=5, splits=("train", "val"))
    data = {"root": str(root), "splits": {"train": "train", "held_out": "val"}}
    found = described(study(data=data, demo=None))
    assert found.clips == {"train": 5, "selection": 2, "report": 3}


def test_an_absent_dataset_is_assumed_and_said(study, tmp_path):
    config = study(
        data={"root": str(tmp_path / "none")}, demo=None, training={"max_target_tokens": 768}
    )
    found = described(config)
    assert found.clips == {"train": 865, "selection": 48, "report": 49}
    assert "assumed, since" in found.sources[0]
    assert found.mean_tokens == pytest.approx(450, rel=0.01)
    given = described(config, train=100, caption_tokens=200)
    assert given.clips == {"train": 100, "selection": 48, "report": 49}
    assert given.mean_tokens == pytest.approx(200, rel=0.01)


def test_a_dataset_without_a_split_is_an_error(study, dataset):
    root = dataset()
    for label in (root / "report" / "labels").iterdir():
        label.unlink()
    with pytest.raises(StudyError, match="no clip with a label for split 'report'"):
        described(study(data={"root": str(root)}, demo=None))


@pytest.mark.parametrize("n", [1, 3, 4, 50])
def test_typical_lengths_have_the_distribution_s_mean(n):
    dataset = Dataset({}, tuple(range(300, 700)), ())
    chosen = dataset.typical(n)
    assert len(chosen) == n and chosen == sorted(chosen)
    assert sum(chosen) / n == pytest.approx(dataset.mean_tokens, rel=0.01)
    assert Dataset({}, (7,), ()).typical(3) == [7, 7, 7]
