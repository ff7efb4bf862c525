"""Cross-fitting: its errors where the truth is known."""

from __future__ import annotations

import pytest

from tools.simulation.crossfit_trial import TunedWorld, play

WORLDS = 3000
ERROR = 3 * (0.05 * 0.95 / WORLDS) ** 0.5


@pytest.mark.parametrize(
    "world",
    [
        TunedWorld(60, 4),
        TunedWorld(60, 2, cell_share=0.5, seed_sd=0.0),
        TunedWorld(60, 2, n_cells=2, cell_share=0.5, seed_sd=0.0),
        TunedWorld(60, 2, cell_share=1.0, interaction=0.0, seed_sd=0.0),
        TunedWorld(97, 4, cell_share=1.0, interaction=0.0, seed_sd=0.0),
        TunedWorld(60, 4, cell_spread=1.0),
        TunedWorld(60, 4, seed_sd=2.0),
    ],
    ids=str,
)
def test_cross_fitting_keeps_its_promises(world: TunedWorld) -> None:
    cross = play(world, WORLDS, 5, "cross-fitted")
    half = play(world, WORLDS, 5, "one half")
    assert cross.false_order <= 0.05 + ERROR, cross
    assert 0.93 <= cross.coverage <= 0.97 + ERROR, cross
    assert 0.93 <= cross.mean_coverage <= 0.97 + ERROR, cross
    assert abs(cross.bias) < 0.08, cross
    assert cross.detectable < 0.9 * half.detectable


def test_choosing_on_the_reported_clips_is_biased() -> None:
    world = TunedWorld(60, 2, cell_share=0.5, seed_sd=0.0)
    assert play(world, WORLDS, 6, "no split").bias > 0.4
    assert play(world, 50, 6, "one half") == play(world, 50, 6, "one half")
