"""The learning rate against values worked by hand; seeds that do not move."""

import math

import pytest

from siglip_study.base.seeds import derived_seed
from siglip_study.training.step import lr_factor


def factors(total, warmup, floor=0.0):
    return [lr_factor(step, total, warmup, floor) for step in range(total)]


def test_values_worked_by_hand():
    half = math.sqrt(0.5)
    expected = [0.5, 1.0, 0.5 + half / 2, 0.5, 0.5 - half / 2, 0.0]
    assert factors(6, 1 / 3) == pytest.approx(expected, abs=1e-12)
    assert factors(4, 0.0, 0.2) == pytest.approx([0.2 + 0.8 * x for x in [
        0.5 + half / 2, 0.5, 0.5 - half / 2, 0.0]])  # fmt: skip


@pytest.mark.parametrize("total", [1, 2, 3, 7, 100, 999])
@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_it_rises_then_falls_to_its_floor_on_the_last_step(total, warmup, floor):
    values = factors(total, warmup, floor)
    rising = math.ceil(total * warmup)
    assert all(0 <= value <= 1 for value in values)
    assert values[:rising] == sorted(values[:rising])
    assert values[rising:] == sorted(values[rising:], reverse=True)
    if rising:
        assert values[rising - 1] == 1.0
    if rising < total:
        assert values[-1] == pytest.approx(floor, abs=1e-12)


def test_seeds_are_fixed_for_all_time_and_fit_every_generator():
    # SHA-256("step/0/1/2"), first eight bytes, shifted by one: recorded with hashlib alone.
    import hashlib

    digest = hashlib.sha256(b"step/0/1/2").hexdigest()
    assert derived_seed("step", 0, 1, 2) == int(digest[:16], 16) >> 1
    seeds = {
        derived_seed("step", s, stage, k) for s in range(5) for stage in (1, 2) for k in range(50)
    }
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)
