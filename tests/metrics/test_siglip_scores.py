"""Cosines and probabilities from embeddings, by hand."""

import numpy as np
import pytest
from scipy.special import expit

from siglip_study.base.errors import StudyError
from siglip_study.metrics.siglip import (
    Chunks,
    Frames,
    clip_vectors,
    own_cosines,
    score_matrix,
    siglip_published,
    siglip_sigmoid,
    siglip_sum,
)

X, Y = [1.0, 0.0], [0.0, 1.0]
NOTHING = np.zeros((0, 2), dtype=np.float32)


def arrays(*vectors):
    return np.array(vectors, dtype=np.float32)


def test_a_clip_is_the_normalised_mean_of_unit_frames():
    # A long frame vector weighs no more than a short one: (1,0) and (0,1) meet at 45°.
    images = clip_vectors([arrays([10, 0], [0, 1]), arrays([0, 3])])
    assert images == pytest.approx(np.array([[2**-0.5, 2**-0.5], [0, 1]]))


def test_means_and_sums_of_unit_chunks():
    # Caption 0: chunks X (3 tokens) and Y (1 token): 3/4 with clip X, 1/4 with clip Y.
    embeddings, weights = [arrays([2, 0], [0, 5]), arrays(Y), NOTHING], [[3, 1], [7], []]
    chunks = Chunks(embeddings, weights)
    assert chunks.means == pytest.approx(np.array([[0.75, 0.25], [0, 1], [0, 0]]))
    assert chunks.sums == pytest.approx(np.array([[1, 1], [0, 1], [0, 0]]))
    assert chunks.empty.tolist() == [False, False, True]
    matrix = score_matrix(embeddings, weights, np.array([X, Y]))
    assert matrix == pytest.approx(np.array([[0.75, 0.25], [0, 1], [-1, -1]]))


def test_the_sum_does_not_reward_brevity():
    long, short = arrays(X, [0.6, 0.8]), arrays(X)
    chunks = Chunks([long, short, NOTHING], [np.ones(2), np.ones(1), []])
    images = np.array([X, X, X])
    own = own_cosines(chunks.means, chunks.empty, images)
    assert own == pytest.approx([0.8, 1.0, -1])
    assert siglip_sum(chunks, images) == pytest.approx([1.6, 1.0, -1])
    assert siglip_sum(Chunks([NOTHING], [[]]), np.array([X])).tolist() == [-1]


def test_sigmoid_equals_scipy_and_does_not_overflow():
    cosine = np.linspace(-1, 1, 21)
    assert siglip_sigmoid(cosine, 117.3, -12.9) == pytest.approx(expit(117.3 * cosine - 12.9))
    with np.errstate(all="raise"):
        extreme = siglip_sigmoid(np.array([-1.0, 1.0]), 700.0, 0.0)
    assert extreme == pytest.approx([0, 1])


def test_published_is_a_mean_of_sigmoids_not_a_sigmoid_of_the_mean():
    frames = Frames([arrays(X, Y)])
    value = siglip_published(arrays(X), frames, 10.0, -5.0)
    assert value == pytest.approx([(expit(5.0) + expit(-5.0)) / 2])
    assert siglip_published(arrays(X), frames, 10.0, -5.0, np.array([True])).tolist() == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Chunks([arrays(X)], [np.ones(2)]), "differ in number"),
        (lambda: Chunks([arrays(X)], [np.zeros(1)]), "positive"),
        (lambda: clip_vectors([arrays([np.nan, 1])]), "not finite"),
        (lambda: siglip_sum(Chunks([], []), np.array([X])), "0 captions but 1 clips"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(StudyError, match=message):
        call()
