"""The micro scorer's vectors, pinned: another library, padding or spelling would move them."""

from pathlib import Path

import numpy as np
import pytest

from siglip_study.features.scorer import Scorer

MICRO = Path(__file__).parents[2] / "resources" / "demo" / "scorer"
TEXTS = ["빨간 공 두 개가 왼쪽으로 굴러간다.", "밤에 눈이 내린다.", "A Red Ball."]
# The first four of each vector.
TEXT_GOLD = [
    [-0.013243, 0.046870, 0.021999, -0.107363],
    [0.042754, 0.125798, 0.062388, -0.134473],
    [0.109381, 0.100243, -0.093135, -0.124267],
]
FRAME_GOLD = [
    [-0.083362, -0.012464, -0.021787, -0.043631],
    [0.055678, 0.004611, 0.022282, 0.081871],
    [0.045609, 0.103823, -0.092742, 0.089898],
]


@pytest.fixture(scope="module")
def scorer():
    return Scorer(str(MICRO))


def frames():
    """Black, white, and a ramp from left to right, ``[3, 1, 64, 64, 3]``."""
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (64, 64, 3))
    return np.stack([np.zeros_like(ramp), np.full_like(ramp, 255), ramp])[:, None]


def test_vectors(scorer):
    texts = scorer.text_embeddings(TEXTS)[:, :4].numpy()
    assert texts == pytest.approx(np.array(TEXT_GOLD), abs=1e-4)
    shown = scorer.encode(frames())[:, 0, :4].numpy()
    assert shown == pytest.approx(np.array(FRAME_GOLD), abs=1e-4)
