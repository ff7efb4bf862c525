"""Who sees the order of frames: planted losses of which the share is known."""

import numpy as np
import pytest

from siglip_study.ranking.time_order import Losses, time_order

N = 60


def losses(share: float, seed: int, cost: float = 2.0) -> Losses:
    """Three runs of a model to which reversing costs ``share`` of what another video costs."""
    rng = np.random.default_rng(seed)
    matched = rng.normal(1.0, 0.2, (3, N))
    wrong = cost * rng.gamma(4, 0.25, (3, N))
    return Losses(matched, matched + wrong, matched + share * wrong)


def test_shares_are_recovered_and_the_blind_one_is_named():
    found = time_order(
        {"sees": losses(0.4, 1), "barely": losses(0.1, 2), "blind": losses(0.0, 3)},
        [str(i) for i in range(N)],
    )
    told = {own.projector: own for own in found.projectors}
    assert told["sees"].share == pytest.approx(0.4) and told["sees"].verdict == "sees"
    assert told["barely"].verdict == "sees"
    assert found.blind == ("blind",)
    assert {(p.a, p.b) for p in found.pairs if p.significant} == {
        ("sees", "barely"), ("sees", "blind"), ("barely", "blind"),
    }  # fmt: skip


def test_the_noise_of_others_hides_no_blind_one():
    loud = losses(0.4, 1)
    shift = np.array([-0.5, 0.0, 0.5])[:, None]  # reversing costs the runs of one unequally
    wild = Losses(loud.matched, loud.shuffled, np.asarray(loud.reversed) + shift)
    found = time_order({"wild": wild, "blind": losses(0.0, 3)}, [str(i) for i in range(N)])
    assert found.blind == ("blind",)


def test_a_model_that_sees_nothing_has_no_share():
    found = time_order({"nothing": losses(0.5, 1, cost=-1.0)}, [str(i) for i in range(N)])
    assert found.projectors[0].share is None and found.projectors[0].verdict == "undetermined"
