"""Averaged patches: exact counts, means by hand, and no change where nothing is pooled."""

import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.projectors import build
from siglip_study.projectors._pooling import average_patches, token_grid
from siglip_study.projectors.base import FeatureShape


@pytest.mark.parametrize(
    ("tokens", "grid", "cells"),
    [
        (8, (24, 24), (2, 4)),
        (144, (24, 24), (12, 12)),
        (576, (24, 24), (24, 24)),
        (7, (24, 24), (1, 7)),
        (8, (2, 4), (2, 4)),
        (6, (3, 2), (3, 2)),
        (29, (24, 24), None),
    ],
)
def test_the_grid_is_as_square_as_fits(tokens, grid, cells):
    assert token_grid(tokens, grid) == cells


def test_means_by_hand():
    # One clip, one frame of 2 × 4 patches in row-major order, width 1.
    features = torch.arange(8.0).reshape(1, 1, 8, 1)
    assert average_patches(features, (2, 4), (1, 2)).flatten().tolist() == [2.5, 4.5]
    assert average_patches(features, (2, 4), (2, 4)).equal(features)


def test_a_linear_map_of_means_is_the_mean_of_its_outputs():
    torch.manual_seed(0)
    pooled = build("linear", FeatureShape(2, (4, 4), 5), 7, tokens_per_frame=4)
    plain = build("linear", FeatureShape(2, (4, 4), 5), 7)
    plain.load_state_dict(pooled.state_dict())
    features = torch.randn(2, 2, 16, 5)
    every = plain(features).reshape(2, 2, 16, 7)
    expected = average_patches(every, (4, 4), (2, 2)).flatten(1, 2)
    assert pooled(features).shape == (2, 8, 7)
    assert pooled(features).allclose(expected, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "c_abstractor"])
@pytest.mark.parametrize("tokens", [0, 17, 29])
def test_tokens_that_fit_no_grid_are_refused(name, tokens):
    with pytest.raises(StudyError, match=f"tokens_per_frame is {tokens}; expected"):
        build(name, FeatureShape(2, (4, 4), 8), 8, tokens_per_frame=tokens)
