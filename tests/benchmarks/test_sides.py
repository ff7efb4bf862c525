"""Each side in a process of its own: their order, what is made of several, and the process."""

import pytest
import torch

from benchmarks.inputs import MICRO
from benchmarks.sides import Found, compare, in_own_process, ratio_of

CPU = torch.device("cpu")


def test_published_goes_first_in_one_round_and_last_in_the_next():
    order = []
    compare("captions", MICRO, CPU, 3, lambda name, side, size, device: order.append(side) or {})
    assert order == ["published", "ours", "ours", "published", "published", "ours"]


def test_a_ratio_is_of_medians_and_shows_the_extremes_of_all_processes():
    found = Found(
        {
            "published": [{"s": 6.0}, {"s": 4.0}, {"s": 5.0}],
            "ours": [{"s": 1.0}, {"s": 1.25}, {}],
        }
    )
    assert found.middle("published", "s") == 5.0
    assert found.each("ours", "s") == [1.0, 1.25]
    ratio = found.ratio(["s"], ["s"])
    assert (ratio.middle, ratio.lowest, ratio.highest) == (pytest.approx(5 / 1.125), 3.2, 6.0)
    assert ratio.spread == "3.2 to 6"
    assert ratio_of([3.0], [2.0]).spread == "1.5 to 1.5"


@pytest.mark.full
def test_a_process_of_its_own_hands_back_its_figures():
    assert in_own_process("tower", "published", MICRO, CPU)["seconds"] > 0
