"""CIDEr against pycocoevalcap, by hand, and the linear path against all pairs."""

import math
import random

import numpy as np
import pytest

from siglip_study.metrics.base import Undefined
from siglip_study.metrics.cider import RarityWeights, cider, cider_gain


def random_lists(seed, n, vocabulary, shortest, longest):
    rng = random.Random(seed)
    return [
        [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(shortest, longest))]
        for _ in range(n)
    ]


def pinned_case():
    captions = random_lists(11, 5, 6, 3, 8)
    first, second = random_lists(12, 5, 6, 3, 8), random_lists(13, 5, 6, 3, 8)
    return captions, [[a, b] for a, b in zip(first, second, strict=True)]


def test_pinned_values_of_pycocoevalcap():
    # pycocoevalcap 1.2, CiderScorer(n=4, sigma=1e9) on the same lists joined by spaces: so wide a
    # Gaussian is 1, which leaves exactly this definition (clipped counts, frequencies from the
    # references). On 200 random corpora the two differed by less than 1e-15.
    captions, references = pinned_case()
    assert cider(captions, references, references) == pytest.approx(
        [
            0.5423377823658374,
            0.9196657175021823,
            1.4934828306367633,
            1.0206207261596574,
            0.7992119649658868,
        ],
        rel=1e-14,
    )


#: "가" is in both train clips, "나" and the pair in one.
KOREAN = [[["가", "나"]], [["가", "다"]]]


def test_by_hand():
    # Train: "가 나", "가 다", so N = 2, df(가) = 2 (weight 0), df(나) = 1 (weight ln 2); pairs have
    # weight ln 2. Caption "가 나 라" with reference "가 나":
    # order 1: h = {나: L, 라: L}, r = {나: L}: L² / (L√2 · L) = 1/√2
    # order 2: h = {가나: L, 나라: L}, r = {가나: L}: 1/√2; orders 3 and 4: 0.
    found = cider([["가", "나", "라"]], [[["가", "나"]]], KOREAN)
    assert found == pytest.approx([10 * (2 / math.sqrt(2)) / 4])


def test_weights_by_hand():
    weights = RarityWeights(KOREAN)
    assert weights[("가",)] == 0
    assert weights[("나",)] == weights[("없",)] == pytest.approx(math.log(2))
    # Two references of one clip count once.
    twice = RarityWeights([[["a"], ["a", "b"]], [["c"]]])
    assert twice[("a",)] == twice[("c",)] == math.log(2)


def test_equal_captions_score_10_and_repeating_them_does_not():
    train = [[list("abcde")], [list("fghij")]]
    assert cider([list("abcde")], [[list("abcde")]], train) == pytest.approx([10])
    assert cider([list("abcde") * 3], [[list("abcde")]], train)[0] < 7


def test_others_equal_the_mean_over_all_other_clips():
    captions, references = random_lists(1, 12, 5, 0, 9), []
    for i, tokens in enumerate(random_lists(2, 12, 5, 0, 9)):
        references.append([tokens, *random_lists(100 + i, i % 3, 5, 1, 9)])
    train = references[:7]
    # Every caption with every clip's references, by rolling them past each other.
    rolled = [cider(captions, references[k:] + references[:k], train) for k in range(12)]
    assert cider_gain(captions, references, train) == pytest.approx(
        rolled[0] - np.mean(rolled[1:], axis=0)
    )


def test_empty_captions_and_single_clips():
    train = [[["a"]], [["b"]]]
    assert cider([[], ["a"]], [[["a"]], [[]]], train).tolist() == [0, 0]
    assert cider_gain([[], []], [[["a"]], [["b"]]], train).tolist() == [0, 0]
    assert np.isnan(cider_gain([["a"]], [[["a"]]], train)).all()
    with pytest.raises(Undefined, match="two train clips"):
        cider([["a"]], [[["a"]]], train[:1])


def test_nothing_in_common_with_others_loses_exactly_nothing():
    references = [[list("abc")], [list("def")], [list("ghi")]]
    captions = [list("abc"), list("def"), list("ghi")]
    gain = cider_gain(captions, references, references)
    assert gain.tolist() == cider(captions, references, references).tolist()
