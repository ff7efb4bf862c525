"""FLOPs, budgets, lengths and the projection, against figures worked out by hand."""

import pytest
import torch

from benchmarks import data_parallel
from benchmarks.inputs import FULL, MICRO, caption_lengths
from benchmarks.study import project, published_runs
from benchmarks.tables import Result


def test_the_full_size_is_qwen3_8b():
    # 6.95 billion parameters outside embedding and head, norms included.
    assert FULL.shape.layer_parameters == pytest.approx(6.946e9, rel=1e-3)
    # As the published runs print it.
    assert FULL.shape.lora_parameters(FULL.lora.r, FULL.lora.targets) == 43_646_976


def test_caption_lengths_resemble_the_collection():
    drawn = caption_lengths(311, 708, 4000)
    assert min(drawn) >= 311 and max(drawn) <= 708
    assert sum(drawn) / len(drawn) == pytest.approx(401.9, rel=0.02)
    assert sorted(drawn)[2000] == pytest.approx(388, rel=0.02)
    assert set(caption_lengths(120, 400, 4000)) == set(range(120, 401))
    assert caption_lengths(120, 400, 8) == caption_lengths(120, 400, 8)


def _earlier(machine="a GPU"):
    """A study of round numbers: everything costs one second, ours a tenth."""
    training, captions = {}, {}
    for case in MICRO.cases:
        for budget in MICRO.caption_budgets:
            captions |= {
                f"captions/{case.projector}/{budget}/published": 1.0,
                f"captions/{case.projector}/{budget}/ours": 0.1,
            }
        captions[f"captions/{case.projector}/quick/ours"] = 2.0
        captions[f"captions/{case.projector}/ready/ours"] = 5.0
        for stage in (1, 2):
            for lengths in MICRO.training_lengths:
                key = f"training/{case.projector}/{stage}/{lengths}"
                training |= {
                    f"{key}/published/step": 1.0,
                    f"{key}/ours/step": 0.1,
                    f"{key}/ours/validation": 0.01,
                    f"{key}/ours/startup": 30.0,
                }
    parts = {
        "training": training,
        "captions": captions,
        "tower": {"tower/published": 1.0, "tower/ours": 0.1},
        "scoring": {"scoring/published": 1.0, "scoring/ours": 0.1, "scoring/ours/image": 0.01},
    }
    return {name: Result(parts=p, machine=machine) for name, p in parts.items()}


def test_projection_of_e1_by_hand():
    table = project(MICRO, _earlier()).tables[0]
    minutes = {row[0]: (row[1], row[2], row[4]) for row in table.rows}
    steps = 217  # 865 clips, 4 at a time
    assert minutes["features"] == pytest.approx((962 / 60, 96.2 / 60, 96.2 / 60))
    assert minutes["stage 1"][0] == pytest.approx(2 * steps / 60)
    assert minutes["stage 2"][1] == pytest.approx((30 + 3 * steps / 10) / 60)
    validation = 5 * 48 * 0.01
    assert minutes["after each epoch"] == pytest.approx(
        (
            5 * 97 * 2 / 60,
            (validation + 5 * 2.0) / 60,
            (validation + 5 * 97 * 0.2) / 60,
        )
    )
    final = 5.0 + 97 * 0.01 + 49 * 0.2 + 6 * 49 * 0.01
    assert minutes["at the end"] == pytest.approx((0, final / 60, 5.97 / 60))


def test_decoding_runs_beside_the_tower_on_our_side_alone():
    earlier = _earlier()
    parts = {
        "decoding/slow/250/ours": 9.0,
        "decoding/slow/250/published": 2.0,
        "decoding/fast/250/ours": 0.5,
        "decoding/fast/250/published": 2.0,
    }
    earlier["decoding"] = Result(parts=parts, machine="a CPU")
    features = project(MICRO, earlier).tables[0].rows[0]
    assert features[1] == pytest.approx(962 * (1 + 2.0) / 60)
    assert features[2] == pytest.approx(962 * 0.5 / 60)


def test_no_projection_from_half_the_parts_or_from_two_machines():
    earlier = _earlier()
    del earlier["scoring"]
    assert "scoring not timed" in project(MICRO, earlier).skipped
    earlier = _earlier()
    earlier["tower"].machine = "another GPU"
    assert "different machines" in project(MICRO, earlier).skipped


def test_epochs_are_those_that_were_taken():
    epochs = {run.name: run.epochs for run in published_runs()}
    assert epochs["E1-v2"] == (2, 3) and epochs["E5-v3"] == (5, 6)


def test_data_parallel_says_how_many_gpus_it_needs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "needs 2 GPUs" in data_parallel.run(MICRO, torch.device("cuda")).skipped
