"""Cosines and probabilities from embeddings, by hand."""

import numpy as np
import pytest
from scipy.special import expit

from siglip_study.base.errors import StudyError
from siglip_study.metrics.siglip import (
    caption_vectors,
    clip_vectors,
    score_matrix,
    siglip_published,
    siglip_sigmoid,
    siglip_sum,
)

X, Y = [1.0, 0.0], [0.0, 1.0]


def arrays(*vectors):
    return np.array(vectors, dtype=np.float32)


def test_a_clip_is_the_normalised_mean_of_unit_frames():
    # A long frame vector weighs no more than a short one: (1,0) and (0,1) meet at 45°.
    images = clip_vectors([arrays([10, 0], [0, 1]), arrays([0, 3])])
    assert images == pytest.approx(np.array([[2**-0.5, 2**-0.5], [0, 1]]))


def test_matrix_is_the_length_weighted_mean_of_chunk_cosines():
    # Caption 0: chunks X (3 tokens) and Y (1 token): 3/4 with clip X, 1/4 with clip Y.
    chunks = [arrays(X, [0, 5]), arrays(Y)]
    matrix = score_matrix(chunks, [np.array([3, 1]), np.array([7])], np.array([X, Y]))
    assert matrix == pytest.approx(np.array([[0.75, 0.25], [0, 1]]))


def test_an_empty_caption_scores_the_minimum():
    empty = np.zeros((0, 2), dtype=np.float32)
    matrix = score_matrix([empty, arrays(X)], [np.zeros(0), np.ones(1)], np.array([X, Y]))
    assert matrix.tolist() == [[-1, -1], [1, 0]]
    assert siglip_sum([empty, arrays(X)], np.array([X, X])).tolist() == [-1, 1]
    assert score_matrix([empty], [np.zeros(0)], np.array([X])).tolist() == [[-1]]
    assert siglip_sum([empty], np.array([X])).tolist() == [-1]


def test_the_sum_does_not_reward_brevity():
    long, short = arrays(X, [0.6, 0.8]), arrays(X)
    images = np.array([X, X])
    weights = [np.ones(2), np.ones(1)]
    mean = np.diagonal(score_matrix([long, short], weights, images))
    total = siglip_sum([long, short], images)
    assert mean == pytest.approx([0.8, 1.0])
    assert total == pytest.approx([1.6, 1.0])


def test_caption_vectors_are_weighted_means_of_unit_chunks():
    vectors = caption_vectors([arrays([2, 0], [0, 4]), np.zeros((0, 2))], [[3, 1], []], 2)
    assert vectors == pytest.approx(np.array([[0.75, 0.25], [0, 0]]))


def test_sigmoid_equals_scipy_and_does_not_overflow():
    cosine = np.linspace(-1, 1, 21)
    assert siglip_sigmoid(cosine, 117.3, -12.9) == pytest.approx(expit(117.3 * cosine - 12.9))
    with np.errstate(all="raise"):
        extreme = siglip_sigmoid(np.array([-1.0, 1.0]), 700.0, 0.0)
    assert extreme == pytest.approx([0, 1])


def test_published_is_a_mean_of_sigmoids_not_a_sigmoid_of_the_mean():
    frames = [arrays(X, Y)]
    value = siglip_published(arrays(X), frames, 10.0, -5.0)
    assert value == pytest.approx([(expit(5.0) + expit(-5.0)) / 2])
    assert siglip_published(arrays(X), frames, 10.0, -5.0, np.array([True])).tolist() == [0]


def test_mistakes_are_named():
    with pytest.raises(StudyError, match="differ in number"):
        score_matrix([arrays(X)], [np.ones(2)], np.array([X]))
    with pytest.raises(StudyError, match="positive"):
        score_matrix([arrays(X)], [np.zeros(1)], np.array([X]))
    with pytest.raises(StudyError, match="not finite"):
        clip_vectors([arrays([np.nan, 1])])
    with pytest.raises(StudyError, match="2 captions but 1 clips"):
        siglip_sum([arrays(X), arrays(Y)], np.array([X]))
